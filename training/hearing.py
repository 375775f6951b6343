"""Challengers of one retraining are judged on the same rows, and registered with verdict and report, whatever it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from monitor.model.bundle import load_bundle, read_files, read_manifest, write_bundle
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from training.gate import GateLimits, GateResult, judge
from training.incumbents import Incumbents
from training.material import Material
from training.report.evidence import evidence_of_trial
from training.report.page import publish_report
from training.retrain_steps import Steps


@dataclass(frozen=True)
class Hearing:
    """What all challengers of a retraining meet.

    Attributes:
        registry: where they go.
        schema: their features.
        target_alert_rate: share of normal rows that is to be flagged.
        limits: of the gate.
        incumbents: that they are held against.
        material: with the rows on which they are compared.
        remarks: of the validation of the rows, for the report.
        steps: logs and measures.
    """

    registry: Registry
    schema: Schema
    target_alert_rate: float
    limits: GateLimits
    incumbents: Incumbents
    material: Material
    remarks: Sequence[str]
    steps: Steps

    def hear(self, made: Path, staged: Path) -> tuple[str, GateResult]:
        """Judges a bundle and registers it; promotes nothing.

        Args:
            made: its folder.
            staged: a new folder, for the bundle with its verdict.

        Returns:
            Its version, and the verdict.
        """
        with self.steps("evaluate"):
            result = judge(
                load_bundle(made, expected_schema=self.schema),
                self.incumbents.champion,
                self.incumbents.anchor,
                self.material.trial,
                target_alert_rate=self.target_alert_rate,
                limits=self.limits,
            )
            self._state_verdict(made, staged, result)
        bundle = load_bundle(staged, expected_schema=self.schema)
        with self.steps("report"):
            evidence = evidence_of_trial(bundle, self.material.trial)
            publish_report(self.registry, bundle, evidence, self.target_alert_rate, self.remarks)
        with self.steps("register"):
            self.registry.publish(staged)
        return bundle.version, result

    def _state_verdict(self, made: Path, staged: Path, result: GateResult) -> None:
        """Writes the bundle anew, with the gate's checks in its manifest."""
        manifest, _ = read_manifest(made)
        last = self.incumbents.last
        gate: dict[str, Any] = result.as_dict() | {"decided_against": last.champion if last else None}
        stated = msgspec.structs.replace(
            manifest,
            data=manifest.data | dict(self.material.described),
            metrics=manifest.metrics | {"gate": gate, "retrain_seconds": dict(self.steps.seconds)},
        )
        write_bundle(staged, stated, read_files(made, manifest))
