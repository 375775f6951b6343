"""Schema, registry and model: loaded as the daemon loads them, golden records included."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from monitor.champion import open_registry
from monitor.check.trials import Trials
from monitor.errors import BundleError
from monitor.model.bundle import Bundle, load_bundle
from monitor.model.decision import explain_no_flags
from monitor.model.golden import Golden
from monitor.model.registry import Registry
from monitor.model.schema import Schema
from monitor.settings import Settings


@dataclass(frozen=True)
class CheckedModel:
    """A model that is fit for service.

    Attributes:
        bundle: it.
        golden: its golden records, raw JSON.
    """

    bundle: Bundle
    golden: tuple[bytes, ...]


def try_model(trials: Trials, settings: Settings) -> CheckedModel | None:
    """Tries schema, registry and model; None when one of them is wrong."""
    schema = trials.attempt(
        "schema",
        lambda: _load_schema(settings),
        remedy="correct it, name another one with --schema, or let `ganwatch init --from TOPIC` write one",
    )
    if schema is None:
        trials.leave(["registry", "model"], "they belong to the schema")
        return None
    # A remote one keeps what it fetched as long as it lives.
    registry = open_registry(settings)
    version = trials.attempt(
        "registry",
        lambda: _find_version(registry, schema, settings),
        remedy="name the right one with --registry, --model and --model-version, or make a model with `ganwatch train`",
    )
    if version is None:
        trials.leave(["model"], "the registry does not say which")
        return None
    return trials.attempt(
        "model",
        lambda: _load_model(registry, schema, version, settings),
        remedy="`ganwatch models list` shows others to promote; `ganwatch train` makes a new one",
    )


def _load_schema(settings: Settings) -> tuple[Schema, str]:
    schema = Schema.load(settings.schema_path)
    return schema, f"{settings.schema_path}: {schema.name}, {len(schema.features)} features"


def _find_version(registry: Registry, schema: Schema, settings: Settings) -> tuple[str, str]:
    model = settings.model or schema.name
    if settings.model_version is not None:
        registry.fetch_manifest(model, settings.model_version)
        return settings.model_version, f"{registry.url}: {model} {settings.model_version}, pinned"
    version = registry.champion(model)
    return version, f"{registry.url}: champion of {model} is {version}, of {len(registry.versions(model))} versions"


def _load_model(registry: Registry, schema: Schema, version: str, settings: Settings) -> tuple[CheckedModel, str]:
    folder = registry.fetch(settings.model or schema.name, version)
    bundle = load_bundle(folder, expected_schema=schema)
    try:
        golden = Golden.from_npz((folder / "golden.npz").read_bytes()).records
    except (OSError, ValueError, KeyError, msgspec.DecodeError) as error:  # it was readable a moment ago
        raise BundleError(folder / "golden.npz", f"cannot be read: {error}") from error
    detail = f"{bundle.manifest.detector}; {len(golden)} golden records score as stated"
    silence = explain_no_flags(settings, bundle.calibration)
    return CheckedModel(bundle, golden), detail if silence is None else f"{detail}; but {silence}"
