# ruff: noqa: FBT002 - flags of the command line
"""`ganwatch models`: see what the registry holds, compare, promote, and go back. Needs no TensorFlow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from monitor.command_options import ConfigOption, ModelOption, RegistryOption, SchemaOption

if TYPE_CHECKING:
    from monitor.model.promotions import Promotion
    from monitor.model.registry import Registry
    from monitor.settings import Settings

app = typer.Typer(
    help="List, compare, promote and roll back the models of a registry.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]
ReasonOption = Annotated[str, typer.Option(help="Why, for the log.")]
SigningKeyOption = Annotated[
    str | None,
    typer.Option("--signing-key", metavar="FILE", help="Private key that signs the model.", show_default=False),
]
VersionArgument = Annotated[str | None, typer.Argument(help="Version, or `latest`.", show_default="the champion")]


@app.command("list")
def list_models(
    config: ConfigOption = None,
    registry: RegistryOption = None,
    model: Annotated[str | None, typer.Option(help="Only this model.", show_default="all of them")] = None,
    json_output: JsonOption = False,
) -> None:
    """Show all versions of all models, which of them scores, and who promoted it when and why."""
    from monitor.catalogue.entries import describe_model
    from monitor.catalogue.view import new_console, print_models

    settings, held = _open(config, {"registry": registry, "model": model})
    entries = [describe_model(held, name) for name in ([settings.model] if settings.model else held.models())]
    if json_output:
        _print_json({"registry": held.url, "models": entries})
    else:
        print_models(new_console(), held.url, entries)


@app.command()
def show(
    version: VersionArgument = None,
    config: ConfigOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    schema: SchemaOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show one version: its data, its training, its checks at the gate and its promotions."""
    from monitor.catalogue.entries import chosen_model, find_report, find_version, roles_of
    from monitor.catalogue.view import new_console, print_version

    settings, held = _open(config, {"registry": registry, "model": model, "schema_path": schema})
    name = chosen_model(held, settings)
    found = find_version(held, name, version)
    manifest, signer = held.fetch_manifest(name, found), held.signer(name, found)
    roles, report = roles_of(found, held.last_promotion(name)), find_report(held, name, found)
    promotions = [entry for entry in reversed(held.promotions(name)) if found in (entry.champion, entry.challenger)]
    if json_output:
        content = {
            "version": found,
            "roles": roles,
            "signed_by": signer,
            "report": report,
            "manifest": manifest,
            "promotions": promotions,
        }
        _print_json(content)
    else:
        print_version(new_console(), found, roles, signer, report, manifest, promotions)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(help="Version, or `latest`.")],
    after: VersionArgument = None,
    config: ConfigOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    schema: SchemaOption = None,
    json_output: JsonOption = False,
) -> None:
    """Show what two versions state differently: schema, data, configuration, metrics, software."""
    from monitor.catalogue.entries import chosen_model, differences, find_version
    from monitor.catalogue.view import new_console, print_differences

    settings, held = _open(config, {"registry": registry, "model": model, "schema_path": schema})
    name = chosen_model(held, settings)
    one, other = (find_version(held, name, wanted) for wanted in (before, after))
    found = differences(held.fetch_manifest(name, one), held.fetch_manifest(name, other))
    if json_output:
        _print_json({"before": one, "after": other, "differences": found})
    else:
        print_differences(new_console(), one, other, found)


@app.command()
def promote(
    version: Annotated[str, typer.Argument(help="Version, or `latest`.")],
    reason: ReasonOption = "by hand",
    anchor: Annotated[
        bool, typer.Option("--anchor", help="Make it the anchor too: the model that all later ones are held against.")
    ] = False,
    config: ConfigOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    schema: SchemaOption = None,
    json_output: JsonOption = False,
) -> None:
    """Make a version the champion, once its files and golden records have been verified. Running monitors follow."""
    from monitor.catalogue.entries import chosen_model, find_version

    settings, held = _open(config, {"registry": registry, "model": model, "schema_path": schema})
    name = chosen_model(held, settings)
    found = find_version(held, name, version)
    _verify(held, name, found, settings)
    entry = held.promote(name, found, author="human", reason=reason, anchor=found if anchor else None)
    _tell(name, entry, json_output)


@app.command()
def rollback(
    reason: ReasonOption = "by hand",
    config: ConfigOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    schema: SchemaOption = None,
    json_output: JsonOption = False,
) -> None:
    """Go back to the champion before the present one. Running monitors follow."""
    from monitor.catalogue.entries import chosen_model
    from monitor.errors import BundleError

    settings, held = _open(config, {"registry": registry, "model": model, "schema_path": schema})
    name = chosen_model(held, settings)
    entry = held.rollback(name, author="human", reason=reason)
    if entry is None:
        raise BundleError(
            f"{held.url}/aliases/{name}", "another version was made champion meanwhile; look at `ganwatch models list`"
        )
    _tell(name, entry, json_output)


@app.command("prune")
def prune_versions(
    keep: Annotated[int, typer.Option(help="How many of the newest versions stay in any case.", min=1)] = 50,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which would go.")] = False,
    config: ConfigOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    schema: SchemaOption = None,
    json_output: JsonOption = False,
) -> None:
    """Delete old versions. Champion, challenger, anchor and what a rollback leads to stay, and so does the log."""
    from monitor.catalogue.entries import LATEST, chosen_model, find_version
    from monitor.model.retention import obsolete_versions, prune

    settings, held = _open(config, {"registry": registry, "model": model, "schema_path": schema})
    name = chosen_model(held, settings)
    find_version(held, name, LATEST)  # a mistyped name or place is an error
    n_versions = len(held.versions(name))
    gone = obsolete_versions(held, name, keep) if dry_run else prune(held, name, keep)
    kept = n_versions - len(gone)
    if json_output:
        _print_json({"model": name, "deleted": gone, "kept": kept, "dry_run": dry_run})
        return
    for version in gone:
        typer.echo(version)
    typer.echo(f"model {name}: {len(gone)} versions {'would be' if dry_run else 'were'} deleted, {kept} stay")


@app.command("sign")
def sign_version(
    version: VersionArgument = None,
    signing_key: SigningKeyOption = None,
    config: ConfigOption = None,
    registry: RegistryOption = None,
    model: ModelOption = None,
    schema: SchemaOption = None,
) -> None:
    """Sign one version, once its files and golden records have been verified, in the place of whoever signed it before."""
    from monitor.catalogue.entries import chosen_model, find_version
    from monitor.model.registry import Registry
    from monitor.settings import load_settings

    flags = {"registry": registry, "model": model, "schema_path": schema, "signing_key": signing_key}
    settings = load_settings(config, flags=flags)
    held = Registry(settings.registry, signing_key=settings.signing_key)  # whoever signed it so far
    name = chosen_model(held, settings)
    found = find_version(held, name, version)
    held.load(name, found)
    held.sign(name, found)
    typer.echo(f"model {name}: {found} is signed by {held.signer(name, found)}")


@app.command("new-key")
def new_key(
    file: Annotated[Path, typer.Argument(help="Where the private key goes; the public one goes to FILE.pub.")],
) -> None:
    """Make a key pair for signed models; trainers get the private key, monitors the public one (`trusted_keys`)."""
    from monitor.model.signature import make_keys

    public_file, public_key = make_keys(file)
    typer.echo(f"private key {file}, for the setting signing_key; keep it to the trainers")
    typer.echo(
        f"public key  {public_file}, for the setting trusted_keys, which takes the key itself, too: {public_key}"
    )


def _open(config: Any, flags: dict[str, object]) -> tuple[Settings, Registry]:
    from monitor.champion import open_registry
    from monitor.settings import load_settings

    settings = load_settings(config, flags=flags)
    return settings, open_registry(settings)


def _verify(registry: Registry, model: str, version: str, settings: Settings) -> None:
    """A damaged bundle, or one for another schema than the one here, must not become champion.

    Raises:
        BundleError: it is one.
    """
    from monitor.model.schema import Schema

    here = Path(settings.schema_path).exists()
    registry.load(model, version, expected_schema=Schema.load(settings.schema_path) if here else None)


def _tell(model: str, entry: Promotion, json_output: bool) -> None:  # noqa: FBT001 - a flag of the command line
    if json_output:
        _print_json({"model": model, "promotion": entry})
        return
    typer.echo(f"model {model}: champion is {entry.champion} ({entry.action} by {entry.author}: {entry.reason})")


def _print_json(content: object) -> None:
    import msgspec

    typer.echo(msgspec.json.encode(content).decode())
