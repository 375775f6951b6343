"""One retraining, read from top to bottom: read, validate, split, train, calibrate, evaluate, report, register, gate, promote.

Where the gate refuses the retrained network, and the champion alerts far too often or too rarely, the challenger is the champion's
own network with a new calibration.

Only the last step changes what monitors do, and it is one exclusively created file; so a retraining that is killed anywhere
leaves the registry whole. One that had registered its challenger is taken up by the next run where it ended.
"""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from monitor.errors import BundleError
from monitor.model.lease import Lease, renewed_in_background
from monitor.model.registry import Registry
from monitor.model.retention import prune
from monitor.model.schema import Schema
from monitor.model.stored_bundles import temporary_files
from training.gate import GateLimits, GateResult
from training.hearing import Hearing
from training.history import History
from training.incumbents import find_incumbents, find_waiting
from training.material import Material, RetrainingData, few_labels, prepare
from training.recalibrate import recalibrate
from training.retrain_steps import Step, Steps
from training.suite import freeze_reference, read_reference
from training.validation import validate

log = logging.getLogger(__name__)

Outcome = Literal["promoted", "refused", "superseded", "busy", "lease_lost"]
# Makes a bundle from rows in an empty folder, in the steps `train` and `calibrate`, and returns its folder.
Train = Callable[[History, Path, Step], Path]


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
    remarks += few_labels(material)
    hearing = Hearing(
        registry, plan.schema, plan.target_alert_rate, plan.limits, old, material, remarks=remarks, steps=steps
    )
    with temporary_files(), tempfile.TemporaryDirectory(prefix="ganwatch-retrain-") as place:
        folder = Path(place)
        trained = train(material.history, folder / "trained", steps)
        version, result = hearing.hear(trained, folder / "trained with verdict")
        if anchor is None:
            freeze_reference(registry.store, plan.model, version, material.reference)
        if old.champion is None or not _asks_for_calibration(result, material):
            return version
        log.warning(
            "retrained_network_refused", extra={"version": version, "reason": _describe_refusal(result.as_dict())}
        )
        with steps("recalibrate"):
            recalibrated = recalibrate(old.champion, material.history, folder / "recalibrated")
        second, result = hearing.hear(recalibrated, folder / "recalibrated with verdict")
        return second if result.verdict == "passed" else version


def _asks_for_calibration(result: GateResult, material: Material) -> bool:
    """Whether the champion alerts too often or too rarely, and the retrained network cannot mend it.

    That the rows have drifted is not enough: who sends rows that the champion just lets pass would raise its threshold. Without
    times the rows that calibrate are random ones, of which the champion may have learned some.
    """
    return result.verdict == "refused" and result.champion_off_target and material.history.times is not None


def _decide(registry: Registry, plan: RetrainPlan, steps: Steps, version: str, lease: Lease) -> tuple[Outcome, str]:
    """What becomes of a registered challenger; its own manifest says how it fared."""
    with steps("gate"):
        manifest = registry.fetch_manifest(plan.model, version)
        gate = manifest.metrics["gate"]
        if gate["verdict"] != "passed":
            return "refused", _describe_refusal(gate)
        registry.load(plan.model, version, expected_schema=plan.schema)
    champion = gate["decided_against"]
    if plan.shadow_s > 0 and champion is not None:
        with steps("shadow"):
            last = registry.last_promotion(plan.model)
            if last is None or last.champion != champion:
                return "superseded", f"another version than {champion} is champion by now"
            if not _try_beside(registry, plan, version):
                return "superseded", "it was withdrawn while it was tried beside the champion"
    with steps("promote"):
        if not lease.held():
            _withdraw(registry, plan, version)
            return "lease_lost", "the lease expired; another trainer may be at work, so nothing was promoted"
        # The first model for a schema has nothing to be held against and becomes what later ones are held against.
        anchor = version if gate["anchor"] is None else None
        reason = _describe_pass(gate)
        if "network_of" in manifest.data:
            reason = f"the network of {manifest.data['network_of']}, calibrated on new rows: {reason}"
        entry = registry.promote_after(
            plan.model, version, champion=champion, author="gate", reason=reason, anchor=anchor
        )
    if entry is None:
        _withdraw(registry, plan, version)
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


def _withdraw(registry: Registry, plan: RetrainPlan, version: str) -> None:
    """Has the monitors no longer ask a challenger that will not be promoted."""
    last = registry.last_promotion(plan.model)
    if last is not None and last.challenger == version:
        registry.challenge(plan.model, None, author="gate", reason=f"{version} was tried and is not promoted")


def _describe_refusal(gate: Mapping[str, Any]) -> str:
    missed = (check for check in gate["checks"] if check["verdict"] == "refused")
    return "; ".join(f"{check['name']} is {check['value']:.4g}, not {check['limit']}" for check in missed)


def _describe_pass(gate: Mapping[str, Any]) -> str:
    waived = [check["name"] for check in gate["checks"] if check["verdict"] == "waived"]
    made = f"{len(gate['checks']) - len(waived)} of {len(gate['checks'])} checks passed"
    return f"{made}; waived because the data drifted: {', '.join(waived)}" if waived else made
