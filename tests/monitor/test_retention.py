"""Old versions are deleted with all that belongs to them; what scores or may score again stays."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from monitor import cli
from monitor.errors import BundleError
from monitor.model.bundle import Bundle
from monitor.model.registry import Registry
from monitor.model.retention import obsolete_versions, prune
from tests.bundles import bundle_created


@pytest.fixture
def six(tmp_path: Path, machines_bundle: Bundle) -> list[Path]:
    """Bundles of six months, oldest first."""
    return [
        bundle_created(f"2026-0{month}-01T00:00:00.000000+00:00", tmp_path / f"of{month}", machines_bundle)
        for month in range(1, 7)
    ]


def filled(registry: Registry, bundles: list[Path]) -> list[str]:
    """Six versions with reports; the first is the anchor, the fourth the champion after the third, the fifth its challenger."""
    versions = [registry.publish(bundle) for bundle in bundles]
    for version in versions:
        registry.store.write(f"models/machines/{version}/report.html", b"<html>")
    for number in (0, 2, 3):
        registry.promote("machines", versions[number], author="gate", reason="passed")
    registry.challenge("machines", versions[4], author="gate", reason="tried")
    return versions


def test_only_what_nobody_needs_is_deleted_with_its_report(registry: Registry, six: list[Path]) -> None:
    first, second, third, fourth, fifth, sixth = filled(registry, six)
    assert prune(registry, "machines", 1) == [second]
    assert registry.versions("machines") == [first, third, fourth, fifth, sixth]
    assert not [path for path in registry.store.files("models") if second in path]
    assert len(registry.promotions("machines")) == 4
    rolled_back = registry.rollback("machines", author="human", reason="too many alerts")
    assert rolled_back is not None
    assert rolled_back.champion == third
    for version in registry.versions("machines"):
        registry.load("machines", version)


def test_the_newest_stay_whoever_needs_them(local: Registry, six: list[Path]) -> None:
    versions = [local.publish(bundle) for bundle in six]
    assert obsolete_versions(local, "machines", 6) == []
    assert obsolete_versions(local, "machines", 99) == []
    assert obsolete_versions(local, "machines", 2) == versions[:4]
    assert local.versions("machines") == versions


def test_a_deleted_version_leaves_no_empty_folder_and_is_gone_for_good(local: Registry, six: list[Path]) -> None:
    versions = filled(local, six)
    prune(local, "machines", 1)
    assert local.store.folder is not None
    assert not (local.store.folder / "models" / "machines" / versions[1]).exists()
    with pytest.raises(BundleError, match="no such version"):
        local.promote("machines", versions[1], author="human", reason="I want it back")


def models(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    sys.argv = ["ganwatch", "models", *arguments, "--registry", str(folder), "--model", "machines"]
    with pytest.raises(SystemExit) as end:
        cli.main()
    shown = capsys.readouterr()
    return int(end.value.code or 0), shown.out, shown.err


def test_the_command_says_what_goes_and_a_dry_run_deletes_nothing(
    local: Registry, six: list[Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    versions, folder = filled(local, six), Path(local.url)
    assert models(folder, capsys, "prune", "--keep", "1", "--dry-run") == (
        0,
        f"{versions[1]}\nmodel machines: 1 versions would be deleted, 5 stay\n",
        "",
    )
    assert local.versions("machines") == versions
    code, out, _ = models(folder, capsys, "prune", "--keep", "1", "--json")
    assert code == 0
    assert json.loads(out) == {"model": "machines", "deleted": [versions[1]], "kept": 5, "dry_run": False}
    assert models(folder, capsys, "prune")[1] == "model machines: 0 versions were deleted, 5 stay\n"
    code, out, err = models(folder, capsys, "prune", "--keep", "0")
    assert (code, out) == (2, "")
    assert "--keep" in err


def test_a_place_without_versions_is_an_error(
    local: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [])
    code, out, err = models(Path(local.url), capsys, "prune")
    assert (code, out) == (4, "")
    assert "model 'machines' has no versions; the registry holds nothing" in err
