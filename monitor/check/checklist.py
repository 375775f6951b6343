"""All trials of `ganwatch check` in the order in which the daemon comes upon them; what needs a wrong one is left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from monitor.check.cluster import connect, try_records, try_topics
from monitor.check.installation import try_installation
from monitor.check.model import CheckedModel, try_model
from monitor.check.sizes import try_sizes
from monitor.check.trials import Trials
from monitor.settings import Settings, load_settings


def check_all(config: Path | None, flags: Mapping[str, object]) -> Trials:
    """Tries everything that the daemon will need.

    Args:
        config: TOML file with settings, if any.
        flags: settings given on the command line.
    """
    trials = Trials()
    settings = trials.attempt(
        "settings",
        lambda: _load_settings(config, flags),
        remedy="correct what is named; `ganwatch run --list-settings` explains every setting",
    )
    try_installation(trials)
    if settings is None:
        trials.leave(["schema", "registry", "model", *_OF_KAFKA], "the settings are wrong")
        return trials
    model = try_model(trials, settings)
    _try_kafka(trials, settings, model)
    return trials


_OF_KAFKA = ("broker", "topics", "rights", "records", "size of alerts", "size of dead letters")


def _load_settings(config: Path | None, flags: Mapping[str, object]) -> tuple[Settings, str]:
    settings = load_settings(config, flags=flags)
    return settings, f"from {config}, environment and flags" if config else "from environment and flags"


def _try_kafka(trials: Trials, settings: Settings, model: CheckedModel | None) -> None:
    admin = trials.attempt(
        "broker",
        lambda: connect(settings),
        remedy="the settings bootstrap_servers, security_protocol, ssl_… and sasl_… say how to reach it",
    )
    if admin is None:
        trials.leave(_OF_KAFKA[1:], "no broker")
        return
    try:
        records: list[bytes] = []
        if try_topics(trials, admin, settings):
            records = try_records(trials, settings, model)
        else:
            trials.leave(["records"], f"{settings.features_topic} cannot be read")
        if model is None:
            trials.leave(["size of alerts"], "no model to write alerts with")
        else:
            try_sizes(trials, admin, settings, model, records)
    finally:
        admin.close()
