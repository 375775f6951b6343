"""What the dashboard shows: rows of panels, each with its PromQL and a sentence on what to look for.

`dashboard.py` turns this list into Grafana's format. `$instance` and `$__rate_interval` are Grafana's variables.
"""

from __future__ import annotations

from dataclasses import dataclass

RATE = "$__rate_interval"
AT = 'instance=~"$instance"'


@dataclass(frozen=True)
class Query:
    """One PromQL expression and the name of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        shape: `series`, `stat`, `heatmap` or `table`.
        unit: Grafana's name of the unit.
        description: what the panel shows and what to look for.
        width: of 24 columns.
    """

    title: str
    shape: str
    unit: str
    description: str
    queries: tuple[Query, ...]
    width: int = 8


def rate(metric: str, by: str = "") -> str:
    """PromQL: how much a counter grows in a second, summed over the replicas shown."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{{{AT}}}[{RATE}]))"


def quantile(q: float, histogram: str) -> str:
    """PromQL: a quantile of a classic histogram over the replicas shown."""
    return f"histogram_quantile({q}, {rate(f'{histogram}_bucket', by='le')})"


FLAG_RATE = f"{rate('ganwatch_records_flagged_total')} / {rate('ganwatch_records_scored_total')}"
TARGET = f"max(ganwatch_target_alert_rate_ratio{{{AT}}})"

OVERVIEW = (
    Panel("Ready", "stat", "none", "Replicas whose /readyz answers 200.", (Query(f"sum(ganwatch_ready{{{AT}}})"),), 3),
    Panel("Scored", "stat", "reqps", "Records scored in a second.", (Query(rate("ganwatch_records_scored_total")),), 3),
    Panel("Flagged", "stat", "percentunit", "Share of the scored records that were flagged.", (Query(FLAG_RATE),), 3),
    Panel(
        "Target",
        "stat",
        "percentunit",
        "target_alert_rate: the expected share among normal records.",
        (Query(TARGET),),
        3,
    ),
    Panel(
        "Threshold",
        "stat",
        "none",
        "Least score, 0 to 100, that is flagged.",
        (Query(f"max(ganwatch_threshold{{{AT}}})"),),
        3,
    ),
    Panel("Lag", "stat", "short", "Records not yet scored.", (Query(f"sum(ganwatch_lag_records{{{AT}}})"),), 3),
    Panel(
        "Oldest record",
        "stat",
        "s",
        "Age of the oldest record not yet scored.",
        (Query(f"max(ganwatch_lag_seconds{{{AT}}})"),),
        3,
    ),
    Panel(
        "Model age",
        "stat",
        "s",
        "Since the model in service was trained.",
        (Query(f"time() - min(ganwatch_model_created_timestamp_seconds{{{AT}}} > 0)"),),
        3,
    ),
)
RECORDS = (
    Panel(
        "Records",
        "series",
        "reqps",
        "Consumed is scored plus dead-lettered; a lasting gap means that acknowledgements fail.",
        (
            Query(rate("ganwatch_records_consumed_total"), "consumed"),
            Query(rate("ganwatch_records_scored_total"), "scored"),
            Query(rate("ganwatch_records_flagged_total"), "flagged"),
            Query(rate("ganwatch_records_dead_lettered_total"), "dead-lettered"),
        ),
    ),
    Panel(
        "Dead letters by reason",
        "series",
        "reqps",
        "Records that cannot be scored. A new reason usually means that a producer has changed its format.",
        (Query(rate("ganwatch_records_dead_lettered_total", by="reason"), "{{reason}}"),),
    ),
    Panel(
        "Flag rate against target",
        "series",
        "percentunit",
        "A flag rate that stays away from its target: something is going on, or the data drifts away from the model.",
        (Query(FLAG_RATE, "flagged"), Query(TARGET, "target")),
    ),
    Panel(
        "Imputed values by feature",
        "series",
        "short",
        "Missing values in a second, replaced by the typical one. A rise: a producer no longer sends the field.",
        (Query(rate("ganwatch_imputed_values_total", by="feature"), "{{feature}}"),),
    ),
    Panel(
        "Skipped records",
        "series",
        "short",
        "Records the broker had deleted before they were read, in the last hour: lost for the monitor.",
        (Query(f"sum(increase(ganwatch_records_skipped_total{{{AT}}}[1h]))", "skipped"),),
    ),
    Panel(
        "Threshold",
        "series",
        "none",
        "Least score that is flagged, a replica; it moves with the model and with the settings.",
        (Query(f"ganwatch_threshold{{{AT}}}", "{{instance}}"),),
    ),
)
LAG = (
    Panel(
        "Lag by partition",
        "series",
        "short",
        "Records not yet scored. It should return to zero after each burst.",
        (Query(f"max by (partition) (ganwatch_lag_records{{{AT}}})", "{{partition}}"),),
    ),
    Panel(
        "Age of the oldest record by partition",
        "series",
        "s",
        "How late an alert would be.",
        (Query(f"max by (partition) (ganwatch_lag_seconds{{{AT}}})", "{{partition}}"),),
    ),
    Panel(
        "Since the last commit",
        "series",
        "s",
        "Grows while the topic is idle; under load it stays near the length of a batch.",
        (Query(f"time() - (ganwatch_last_commit_timestamp_seconds{{{AT}}} > 0)", "{{instance}}"),),
    ),
    Panel(
        "Waiting",
        "series",
        "none",
        "1 while a replica waits with back-off, by what it lacks.",
        (Query(f"max by (instance, reason) (ganwatch_waiting{{{AT}}})", "{{instance}} {{reason}}"),),
    ),
    Panel(
        "Rebalances",
        "series",
        "short",
        "Changes of the partition assignment in the last 10 minutes. More than a few: replicas drop out of the group.",
        (Query(f"increase(ganwatch_rebalances_total{{{AT}}}[10m])", "{{instance}}"),),
    ),
    Panel(
        "Settings read again",
        "series",
        "short",
        "SIGHUPs in the last hour, by outcome.",
        (Query(f"sum by (outcome) (increase(ganwatch_settings_reloads_total{{{AT}}}[1h]))", "{{outcome}}"),),
    ),
)
SCORES = (
    Panel(
        "Scores",
        "heatmap",
        "short",
        "How many records got which score. 50 is p = 1e-3. A model that fits shows the same picture day after day.",
        (Query(f"sum by (le) (increase(ganwatch_score_bucket{{{AT}}}[{RATE}]))", "{{le}}"),),
        12,
    ),
    Panel(
        "Score quantiles",
        "series",
        "none",
        "For normal records that a model fits: median 5, 99 % below 33, 99.9 % below 50.",
        (
            Query(quantile(0.5, "ganwatch_score"), "median"),
            Query(quantile(0.99, "ganwatch_score"), "99 %"),
            Query(quantile(0.999, "ganwatch_score"), "99.9 %"),
        ),
        12,
    ),
)
SPEED = (
    Panel(
        "End-to-end latency",
        "series",
        "s",
        "From the record's timestamp in Kafka to its acknowledgement.",
        (
            Query(quantile(0.5, "ganwatch_end_to_end_latency_seconds"), "median"),
            Query(quantile(0.99, "ganwatch_end_to_end_latency_seconds"), "99 %"),
        ),
    ),
    Panel(
        "Batch seconds",
        "series",
        "s",
        "From closing a micro-batch to its acknowledgement.",
        (
            Query(quantile(0.5, "ganwatch_batch_seconds"), "median"),
            Query(quantile(0.99, "ganwatch_batch_seconds"), "99 %"),
        ),
    ),
    Panel(
        "Batch rows",
        "series",
        "short",
        "Records in a micro-batch. At max_rows all the time: the daemon works at its limit.",
        (
            Query(quantile(0.5, "ganwatch_batch_rows"), "median"),
            Query(f"{rate('ganwatch_batch_rows_sum')} / {rate('ganwatch_batch_rows_count')}", "mean"),
        ),
    ),
    Panel(
        "Stage seconds",
        "series",
        "percentunit",
        "Wall time spent in each stage of the pipeline, as a share of one thread's time.",
        (Query(rate("ganwatch_stage_seconds_total", by="stage"), "{{stage}}"),),
        12,
    ),
    Panel(
        "CPU",
        "series",
        "percentunit",
        "Processor time, as a share of one core.",
        (Query(f'rate(process_cpu_seconds_total{{job="ganwatch", {AT}}}[{RATE}])', "{{instance}}"),),
        6,
    ),
    Panel(
        "Memory",
        "series",
        "bytes",
        "Resident memory; a steady climb over days is a leak.",
        (Query(f'process_resident_memory_bytes{{job="ganwatch", {AT}}}', "{{instance}}"),),
        6,
    ),
)
MODEL = (
    Panel(
        "Model in service",
        "table",
        "none",
        "Name, version and detector, by replica. Two versions: a replica has not taken over the new champion.",
        (Query(f"ganwatch_model_info{{{AT}}}"),),
        24,
    ),
    Panel(
        "Drift of the scores",
        "series",
        "none",
        "How near the scores are to an alarm of abrupt drift; 1 is one.",
        (Query(f"max by (instance) (ganwatch_score_drift{{{AT}}})", "{{instance}}"),),
    ),
    Panel(
        "Drift of the inputs",
        "series",
        "none",
        "Population stability index of the five features that differ most from training. Above 0.1 something moved.",
        (Query(f"topk(5, max by (feature) (ganwatch_input_drift{{{AT}}}))", "{{feature}}"),),
    ),
    Panel(
        "Flag rate in units of the target",
        "series",
        "none",
        "Of the last few thousand records, by replica; 1 is as expected.",
        (Query(f"ganwatch_flag_rate_ratio{{{AT}}}", "{{instance}}"),),
    ),
    Panel(
        "Swaps and refusals",
        "series",
        "short",
        "Models that took over, were refused, or were sent away by the guard.",
        (Query(f"sum by (outcome) (increase(ganwatch_model_swaps_total{{{AT}}}[{RATE}]))", "{{outcome}}"),),
    ),
    Panel(
        "Second model",
        "series",
        "percentunit",
        "What a challenger, or the predecessor of a new champion, would have flagged, beside what was.",
        (
            Query(f"{rate('ganwatch_beside_flagged_total')} / {rate('ganwatch_beside_records_total')}", "second model"),
            Query(FLAG_RATE, "model in service"),
        ),
    ),
    Panel(
        "Archived rows",
        "series",
        "short",
        "Rows stored for the next retraining, and rows that could not be.",
        (Query(f"sum by (outcome) (increase(ganwatch_archived_rows_total{{{AT}}}[{RATE}]))", "{{outcome}}"),),
    ),
)
ROWS = (
    ("Overview", OVERVIEW),
    ("Records", RECORDS),
    ("Progress", LAG),
    ("Scores", SCORES),
    ("Speed", SPEED),
    ("Model", MODEL),
)
