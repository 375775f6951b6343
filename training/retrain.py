"""One retraining, read from top to bottom: read, validate, split, train, evaluate, report, register, gate, promote.

Only the last step changes what monitors do, and it is one exclusively created file; so a retraining that is killed anywhere
leaves the registry whole. One that had registered its challenger is taken up by the next run where it ended.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np

from monitor.errors import BundleError
from monitor.model.bundle import load_bundle, read_files, read_manifest, write_bundle
from monitor.model.lease import Lease, renewed_in_background
from monitor.model.promotions import Promotion
from monitor.model.registry import Registry
from monitor.model.retention import prune
from monitor.model.schema import Schema
from training.gate import GateLimits, GateResult, judge
from training.history import History
from training.incumbents import find_incumbents, find_waiting
from training.material import Material, RetrainingData, prepare
from training.report.evidence import evidence_of_trial
from training.report.page import publish_report
from training.suite import freeze_reference, read_reference
from training.validation import validate

log = logging.getLogger(__name__)

Outcome = Literal["promoted", "refused", "superseded", "busy", "lease_lost"]
# Makes a bundle from rows in an empty folder and returns its folder.
Train = Callable[[History, Path], Path]


@dataclass(frozen=True)
class RetrainPlan:
    """What is retrained, and how it is judged.

    Attributes:
        model: its name in the registry.
        schema: its features.
        target_alert_rate: share of normal rows that is to be flagged.
        max_invalid_ratio: the largest share of unreadable records.
        limits: of the gate.
        shadow_s: how long monitors score with the challenger beside the champion before it is promoted.
        lease_s: seconds after which a retraining that died no longer keeps others away.
        seed: of everything random outside of the detector.
        keep: how many of the newest versions are kept beside those in use; all of them when None.
    """

    model: str
    schema: Schema
    target_alert_rate: float
    max_invalid_ratio: float = 0.2
    limits: GateLimits = field(default_factory=GateLimits)
    shadow_s: float = 0.0
    lease_s: float = 300.0
    seed: int = 0
    keep: int | None = None


@dataclass(frozen=True)
class RetrainResult:
    """How a retraining ended.

    Attributes:
        outcome: `busy`: another trainer was at work; `superseded`: the champion changed meanwhile.
        reason: a sentence.
        version: the challenger; None when there was none.
        resumed: whether it had been registered by an earlier run that was killed.
        seconds: by step.
    """

    outcome: Outcome
    reason: str
    version: str | None = None
    resumed: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)


class Steps:
    """Logs and measures each step."""

    def __init__(self, on_step: Callable[[str], None] | None = None) -> None:
        """`on_step` is told the name of each step that begins."""
        self.seconds: dict[str, float] = {}
        self._on_step = on_step

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """One step."""
        log.info("retrain_step_started", extra={"step": name})
        if self._on_step:
            self._on_step(name)
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 3)
        log.info("retrain_step", extra={"step": name, "seconds": self.seconds[name]})


def retrain(
    registry: Registry,
    plan: RetrainPlan,
    *,
    read: Callable[[], RetrainingData],
    train: Train,
    on_step: Callable[[str], None] | None = None,
) -> RetrainResult:
    """Makes a challenger and promotes it if it passes the gate.

    Args:
        registry: where models live.
        plan: what is retrained.
        read: gives the rows.
        train: makes a bundle of them.
        on_step: told the name of each step that begins.

    Raises:
        ConfigError: the rows are unfit.
        BundleError: the registry or the new bundle is damaged, or cannot be reached.
    """
    lease = Lease(registry.store, plan.model, holder=f"{socket.gethostname()}:{os.getpid()}", ttl_s=plan.lease_s)
    other = lease.acquire()
    if other is not None:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(other.expires))
        return RetrainResult("busy", f"{other.holder} retrains {plan.model} and holds the lease until {until}")
    steps = Steps(on_step)
    with renewed_in_background(lease, plan.lease_s / 3):
        waiting = find_waiting(registry, plan.model, plan.schema)
        version = waiting or _make_challenger(registry, plan, steps, read, train)
        outcome, reason = _decide(registry, plan, steps, version, lease)
        if plan.keep is not None and outcome != "lease_lost":
            with steps("prune"):
                _prune(registry, plan.model, plan.keep)
    log.info("retrain_done", extra={"outcome": outcome, "version": version, "reason": reason})
    return RetrainResult(outcome, reason, version, resumed=waiting is not None, seconds=steps.seconds)


def _prune(registry: Registry, model: str, keep: int) -> None:
    """Deletes old versions, up to one that cannot be deleted: that changes nothing about the retraining."""
    try:
        prune(registry, model, keep)
    except BundleError as error:
        log.warning("prune_failed", extra={"model": model, "error": str(error)})


def _make_challenger(
    registry: Registry, plan: RetrainPlan, steps: Steps, read: Callable[[], RetrainingData], train: Train
) -> str:
    """From rows to a registered version that knows its own verdict."""
    old = find_incumbents(registry, plan.model, plan.schema)
    with steps("read"):
        data = read()
    anchor = old.anchor.version if old.anchor else None
    with steps("validate"):
        reference = read_reference(registry.store, plan.model, anchor, plan.schema) if anchor else None
        remarks = validate(
            data.history,
            plan.schema,
            champion=old.champion.manifest if old.champion else None,
            reference=reference.suite.normals if reference else None,
            max_invalid_ratio=plan.max_invalid_ratio,
        )
    with steps("split"):
        material = prepare(data, plan.schema, reference, np.random.default_rng(plan.seed))
        if anchor and reference is None:
            freeze_reference(registry.store, plan.model, anchor, material.reference)
    with _workplace() as folder:
        with steps("train"):
            trained = train(material.history, folder / "trained")
        with steps("evaluate"):
            result = judge(
                load_bundle(trained, expected_schema=plan.schema),
                old.champion,
                old.anchor,
                material.trial,
                target_alert_rate=plan.target_alert_rate,
                limits=plan.limits,
            )
            staged = _with_verdict(trained, folder / "staged", material, result, old.last, steps.seconds)
        bundle = load_bundle(staged, expected_schema=plan.schema)
        with steps("report"):
            evidence = evidence_of_trial(bundle, material.trial)
            publish_report(registry, bundle, evidence, plan.target_alert_rate, remarks)
        with steps("register"):
            registry.publish(staged)
            if anchor is None:
                freeze_reference(registry.store, plan.model, bundle.version, material.reference)
    return bundle.version


@contextmanager
def _workplace() -> Iterator[Path]:
    """A folder that is gone afterwards.

    Raises:
        BundleError: the disk takes no more.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="ganwatch-retrain-") as folder:
            yield Path(folder)
    except OSError as error:
        raise BundleError(
            tempfile.gettempdir(), f"the new bundle cannot be written: {error.strerror or error}"
        ) from error


def _with_verdict(
    trained: Path,
    folder: Path,
    material: Material,
    result: GateResult,
    last: Promotion | None,
    seconds: Mapping[str, float],
) -> Path:
    """The trained bundle with the gate's checks in its manifest, in a new folder."""
    manifest, _ = read_manifest(trained)
    gate: dict[str, Any] = result.as_dict() | {"decided_against": last.champion if last else None}
    stated = msgspec.structs.replace(
        manifest,
        data=manifest.data | dict(material.described),
        metrics=manifest.metrics | {"gate": gate, "retrain_seconds": dict(seconds)},
    )
    write_bundle(folder, stated, read_files(trained, manifest))
    return folder


def _decide(registry: Registry, plan: RetrainPlan, steps: Steps, version: str, lease: Lease) -> tuple[Outcome, str]:
    """What becomes of a registered challenger; its own manifest says how it fared."""
    with steps("gate"):
        manifest = registry.fetch_manifest(plan.model, version)
        gate = manifest.metrics["gate"]
        if gate["verdict"] != "passed":
            missed = [
                f"{c['name']} is {c['value']:.4g}, not {c['limit']}"
                for c in gate["checks"]
                if c["verdict"] == "refused"
            ]
            return "refused", "; ".join(missed)
        registry.load(plan.model, version, expected_schema=plan.schema)
    champion = gate["decided_against"]
    if plan.shadow_s > 0 and champion is not None:
        with steps("shadow"):
            if not _try_beside(registry, plan, version):
                return "superseded", "it was withdrawn while it was tried beside the champion"
    with steps("promote"):
        if not lease.held():
            return "lease_lost", "the lease expired; another trainer may be at work, so nothing was promoted"
        # The first model for a schema has nothing to be held against and becomes what later ones are held against.
        anchor = version if gate["anchor"] is None else None
        reason = _describe_pass(gate)
        entry = registry.promote_after(
            plan.model, version, champion=champion, author="gate", reason=reason, anchor=anchor
        )
    if entry is None:
        return "superseded", f"another version than {champion} is champion by now"
    return "promoted", reason


def _try_beside(registry: Registry, plan: RetrainPlan, version: str) -> bool:
    """Names the challenger and waits; False when somebody promoted another version or withdrew it meanwhile."""
    reason = f"tried beside the champion for {plan.shadow_s:g} s"
    if registry.challenge(plan.model, version, author="gate", reason=reason) is None:
        raise BundleError(f"{registry.url}/aliases/{plan.model}", "has lost its champion")
    time.sleep(plan.shadow_s)
    last = registry.last_promotion(plan.model)
    return last is not None and last.challenger == version


def _describe_pass(gate: Mapping[str, Any]) -> str:
    waived = [check["name"] for check in gate["checks"] if check["verdict"] == "waived"]
    made = f"{len(gate['checks']) - len(waived)} of {len(gate['checks'])} checks passed"
    return f"{made}; waived because the data drifted: {', '.join(waived)}" if waived else made
