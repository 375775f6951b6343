# ruff: noqa: FBT002 - flags of the command line
"""`ganwatch retrain`: once, for cron and Kubernetes, or for good with `--every 6h`. Light to import."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.catalogue.command import SigningKeyOption
from monitor.command_options import BrokersOption, ConfigOption, ModelOption, RateOption, RegistryOption, SchemaOption
from training.commands import AnomalyOption, JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from monitor.settings import Settings
    from training.history import History
    from training.material import RetrainingData
    from training.retrain import RetrainPlan, RetrainResult
    from training.retrain_steps import Step

# What a scheduler should be told of: no new champion, though there could have been one.
_FAILED = frozenset({"refused", "lease_lost"})


def retrain(
    data: Annotated[
        str | None,
        typer.Option(metavar="FILE|TOPIC[@FROM..TO]", help="Rows to learn from.", show_default="the archive"),
    ] = None,
    archive: Annotated[
        str | None, typer.Option(help="Folder or URL of the monitor's archive.", show_default="setting archive")
    ] = None,
    feedback: Annotated[
        str | None, typer.Option(metavar="FILE|TOPIC", help="What people said about alerts.", show_default=False)
    ] = None,
    every: Annotated[
        str | None, typer.Option(help="Stay, and retrain this often: 6h, 2d, …", show_default="once")
    ] = None,
    jitter: Annotated[str, typer.Option(help="With --every: start up to this much earlier or later.")] = "5m",
    cool_down: Annotated[
        str,
        typer.Option(
            help="With --every and the setting model_events_topic: drift that the monitor announces has the model retrained, "
            "an abrupt one when it has been on record this long, and each time at the earliest this long after the last time."
        ),
    ] = "30m",
    shadow: Annotated[
        str | None,
        typer.Option(
            help="Try the challenger beside the champion this long before it is promoted.", show_default=False
        ),
    ] = None,
    label: Annotated[
        str | None, typer.Option(help="Column of a file that tells anomalies.", show_default=False)
    ] = None,
    anomaly: AnomalyOption = None,
    detector: Annotated[str | None, typer.Option(help="Another detector.", show_default="the champion's")] = None,
    preset: Annotated[str | None, typer.Option(help="Another preset.", show_default="the champion's")] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Another option of the detector (`ganwatch detectors NAME` lists them); may be repeated.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of everything random.", min=0, show_default="the champion's")
    ] = None,
    max_rows: Annotated[
        int, typer.Option(help="At most so many rows: the last ones, or a uniform part of the archive.", min=200)
    ] = 200_000,
    keep: Annotated[
        int | None,
        typer.Option(
            help="Delete all versions but so many of the newest and those in use.", min=1, show_default="all stay"
        ),
    ] = None,
    lease: Annotated[str, typer.Option(help="After this long a trainer that died keeps no other away.")] = "5m",
    signing_key: SigningKeyOption = None,
    config: ConfigOption = None,
    schema: SchemaOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    target_alert_rate: RateOption = None,
    bootstrap_servers: BrokersOption = None,
    json_output: JsonOption = False,
) -> None:
    """Retrain the champion on newer rows; the new model is promoted only if it passes the gate.

    Each run reads, validates, splits by time, trains, calibrates, evaluates, reports, registers, and lets the gate decide: champion,
    challenger and anchor are compared on frozen and on recent rows. Killed anywhere, it leaves the registry whole.
    """
    from monitor.logs import configure_logs
    from monitor.model.schema import Schema
    from monitor.settings import load_settings
    from training.commands import _parse_options
    from training.resident import parse_duration
    from training.retrain import RetrainPlan

    flags = {
        "schema_path": schema,
        "registry": registry,
        "model": model,
        "target_alert_rate": target_alert_rate,
        "bootstrap_servers": bootstrap_servers,
        "signing_key": signing_key,
    }
    settings = load_settings(config, flags=flags)
    configure_logs(settings.log_level, settings.log_format)
    features = Schema.load(settings.schema_path)
    plan = RetrainPlan(
        model=settings.model or features.name,
        schema=features,
        target_alert_rate=_alert_rate(settings),
        max_invalid_ratio=settings.max_invalid_ratio,
        shadow_s=parse_duration(shadow, "--shadow") if shadow else 0.0,
        lease_s=parse_duration(lease, "--lease"),
        keep=keep,
    )
    source = _Source(
        data, archive or (None if data else settings.archive), feedback, label, tuple(anomaly or ()), max_rows
    )
    source.check()
    changes = {"detector": detector, "preset": preset, "options": _parse_options(option), "seed": seed}
    run = _Run(settings, plan, source, changes, json_output)
    if every is None:
        signal.signal(signal.SIGTERM, _end)  # the lease is given back on the way
        result = run.once()
        raise typer.Exit(4 if result.outcome in _FAILED else 0)
    every_s = parse_duration(every, "--every")
    jitter_s = min(parse_duration(jitter, "--jitter"), every_s / 2)
    _stay(run, every_s, jitter_s, parse_duration(cool_down, "--cool-down"))


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def _alert_rate(settings: Settings) -> float:
    """The share of normal records that is to be flagged: the target, or what a fixed threshold amounts to."""
    from monitor.model.decision import expected_alert_rate

    return expected_alert_rate(settings)


@dataclass(frozen=True)
class _Source:
    """Where rows and judgements come from."""

    data: str | None
    archive: str | None
    feedback: str | None
    label: str | None
    anomaly: Sequence[str]
    max_rows: int

    def check(self) -> None:
        """Before anything is loaded or leased.

        Raises:
            ConfigError: there is no source, or there are two, or one cannot have what goes with it.
        """
        from monitor.errors import ConfigError

        if (self.data is None) == (self.archive is None):
            raise ConfigError(
                "retrain", "give either --data FILE|TOPIC or --archive URL, which says where the rows are"
            )
        if self.data is not None and self.feedback is not None:
            raise ConfigError(
                "--feedback", "tells of alerts by records of the archive; give --archive instead of --data"
            )
        if self.archive is not None and (self.label is not None or self.anomaly):
            raise ConfigError(
                "--label", "is a column of a file; of the archive's records --feedback tells the anomalies"
            )

    def read(self, settings: Settings, plan: RetrainPlan) -> RetrainingData:
        """Reads it all anew."""
        from monitor.model.store import open_store
        from training.archive_history import read_archive
        from training.feedback import Feedback, read_feedback
        from training.history import read_history
        from training.material import RetrainingData

        if self.archive is not None:
            said = read_feedback(self.feedback, settings) if self.feedback else Feedback({})
            store = open_store(self.archive, "archive")
            return read_archive(store, plan.model, plan.schema, said, max_rows=self.max_rows)
        history = read_history(
            self.data or "", plan.schema, settings, label=self.label, anomaly=self.anomaly, max_rows=self.max_rows
        )
        return RetrainingData(history)


@dataclass(frozen=True)
class _Run:
    """One retraining, as often as asked."""

    settings: Settings
    plan: RetrainPlan
    source: _Source
    changes: dict[str, Any] = field(default_factory=dict)
    json_output: bool = False

    def once(self) -> RetrainResult:
        """Retrains and tells how it ended."""
        from dataclasses import asdict

        from monitor.champion import open_registry
        from monitor.terminal import print_json
        from training.retrain import retrain

        registry = open_registry(self.settings, to_publish=True)
        result = retrain(
            registry,
            self.plan,
            read=lambda: self.source.read(self.settings, self.plan),
            train=self._train,
        )
        if self.json_output:
            print_json({"model": self.plan.model, **asdict(result)})
        else:
            named = f" {result.version}" if result.version else ""
            typer.echo(f"model {self.plan.model}{named}: {result.outcome}; {result.reason}")
            if result.version:
                typer.echo(f"report {registry.report_url(self.plan.model, result.version)}")
        return result

    def again(self, _reason: str) -> None:
        """The same, for a resident trainer, which logs the reason."""
        self.once()

    def _train(self, history: History, folder: Path, step: Step) -> Path:
        """Loads TensorFlow only now: most of what can go wrong goes wrong earlier."""
        from monitor.champion import open_registry
        from monitor.native_output import native_stderr_held
        from monitor.terminal import new_console
        from training.progress import TrainingProgress

        with native_stderr_held():
            from training.challenger import ChallengerPlan, train_challenger, training_plan
            from training.train import find_devices

            find_devices()
        registry = open_registry(self.settings)
        last = registry.last_promotion(self.plan.model)
        champion = registry.fetch_manifest(self.plan.model, last.champion) if last else None
        plan = training_plan(champion, ChallengerPlan(**self.changes))
        with TrainingProgress(new_console(stderr=True)) as progress:
            return train_challenger(
                history,
                folder,
                schema=self.plan.schema,
                model=self.plan.model,
                plan=plan,
                step=step,
                on_progress=progress.update,
            )


def _stay(run: _Run, every_s: float, jitter_s: float, cool_down_s: float) -> None:
    """Retrains by the clock and on drift, until a signal ends it."""
    from contextlib import nullcontext

    from training.drift_events import followed_drift
    from training.resident import Resident, Schedule, stop_on_signals

    resident = Resident(run.again, Schedule(every_s, jitter_s, cool_down_s))
    stop_on_signals(resident)
    topic = run.settings.model_events_topic
    with (
        followed_drift(run.settings, topic, run.plan.model, resident.wish, settling_s=cool_down_s)
        if topic
        else nullcontext()
    ):
        resident.run_forever()
