"""SIGHUP: the settings are read again while the daemon runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from monitor.errors import ConfigError
from monitor.settings import RELOADABLE, Settings, load_settings
from monitor.telemetry.metrics import Metrics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SettingsSource:
    """Where the settings came from, so that SIGHUP can read them again.

    Attributes:
        config: TOML file, if any.
        flags: settings given on the command line.
    """

    config: Path | None
    flags: Mapping[str, object] = field(default_factory=dict)

    def load(self) -> Settings:
        """Reads file and environment anew.

        Raises:
            ConfigError: with all problems.
        """
        return load_settings(self.config, flags=self.flags)


@dataclass
class Reloader:
    """Takes over those settings that decide, never connections or the model.

    Attributes:
        source: where settings come from.
        settings: those in force.
        take: told the new ones, between two micro-batches.
        metrics: counts the attempts.
    """

    source: SettingsSource
    settings: Settings
    take: Callable[[Settings], None]
    metrics: Metrics
    _asked: bool = False

    def ask(self) -> None:
        """Called by the signal handler; the loop does the work."""
        self._asked = True

    def reload_if_asked(self) -> None:
        """Takes over new settings; a bad file keeps the old ones and says so."""
        if not self._asked:
            return
        self._asked = False
        try:
            fresh = self.source.load()
        except ConfigError as error:
            self.metrics.reloads.labels("refused").inc()
            log.error("settings_refused", extra={"error": str(error)})
            return
        old = self.settings
        changed = {name: getattr(fresh, name) for name in RELOADABLE if getattr(fresh, name) != getattr(old, name)}
        ignored = [
            name
            for name in Settings.model_fields
            if name not in RELOADABLE and getattr(fresh, name) != getattr(old, name)
        ]
        self.settings = old.model_copy(update=changed)
        self.take(self.settings)
        logging.getLogger().setLevel(self.settings.log_level.upper())
        self.metrics.reloads.labels("done").inc()
        level = logging.WARNING if ignored else logging.INFO
        log.log(level, "settings_reloaded", extra={"changed": changed, "needs_restart": ignored})
