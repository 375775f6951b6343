"""The registry: versions that never change, and a log of promotions that two writers cannot tear."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import fsspec
import msgspec
import pytest

from monitor.errors import BundleError, ConfigError
from monitor.model.bundle import FILES, MANIFEST, Bundle, load_bundle
from monitor.model.registry import Promotion, Registry
from tests.bundles import bundle_created

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


def test_a_published_bundle_can_be_fetched_and_loaded(registry: Registry, bundles: list[Path]) -> None:
    version = registry.publish(bundles[0])
    folder = registry.fetch("machines", version)
    assert folder.name == version
    assert load_bundle(folder).version == version
    for name in (*FILES, MANIFEST):
        assert (folder / name).read_bytes() == (bundles[0] / name).read_bytes()


def test_versions_are_listed_oldest_first_and_models_by_name(
    registry: Registry, bundles: list[Path], tmp_path: Path, machines_bundle: Bundle
) -> None:
    assert (registry.models(), registry.versions("machines")) == ([], [])
    versions = [registry.publish(bundles[place]) for place in (2, 0, 1)]
    registry.publish(bundle_created("2026-01-01T00:00:00+00:00", tmp_path / "other", machines_bundle, model="a.b-c_d"))
    assert registry.versions("machines") == sorted(versions)
    assert [version[:8] for version in registry.versions("machines")] == ["20260101", "20260201", "20260301"]
    assert registry.models() == ["a.b-c_d", "machines"]


def test_publishing_twice_changes_nothing(local: Registry, bundles: list[Path], tmp_path: Path) -> None:
    version = local.publish(bundles[0])
    files = sorted((tmp_path / "registry").rglob("*"))
    before = [(file, file.stat().st_mtime_ns, file.stat().st_ino) for file in files]
    assert local.publish(bundles[0]) == version
    assert [
        (file, file.stat().st_mtime_ns, file.stat().st_ino) for file in sorted((tmp_path / "registry").rglob("*"))
    ] == before


def test_a_version_cannot_be_overwritten_with_other_content(registry: Registry, bundles: list[Path]) -> None:
    version = registry.publish(bundles[0])
    (bundles[0] / "golden.npz").write_bytes(b"something else")
    with pytest.raises(BundleError, match=r"golden\.npz: was changed after it was written"):
        registry.publish(bundles[0])
    assert load_bundle(registry.fetch("machines", version)).version == version


def test_a_version_that_was_changed_in_the_registry_is_refused(local: Registry, bundles: list[Path]) -> None:
    version = local.publish(bundles[0])
    manifest = local.fetch("machines", version) / MANIFEST
    manifest.write_bytes(manifest.read_bytes().replace(b'"efficient_gan"', b'"efficient_gam"'))
    for call in (lambda: local.fetch("machines", version), lambda: local.publish(bundles[0])):
        with pytest.raises(BundleError, match="was changed after it was published; SHA-256 differs") as caught:
            call()
        assert caught.value.file == str(manifest)


@pytest.mark.parametrize("name", FILES)
def test_a_half_written_version_is_invisible(local: Registry, bundles: list[Path], tmp_path: Path, name: str) -> None:
    target = tmp_path / "registry" / "models" / "machines" / "20260101T000000Z-00000000"
    target.mkdir(parents=True)
    shutil.copy(bundles[0] / name, target)
    assert (local.versions("machines"), local.models()) == ([], [])
    for call in (local.fetch, local.fetch_manifest):
        with pytest.raises(BundleError, match="no such version"):
            call("machines", target.name)
    with pytest.raises(BundleError, match="no such version"):
        local.promote("machines", target.name, author="human", reason="too early")
    assert local.promotions("machines") == []


def test_a_half_written_version_is_completed_by_publishing_again(local: Registry, bundles: list[Path]) -> None:
    version = local.publish(bundles[0])
    folder = local.fetch("machines", version)
    (folder / MANIFEST).unlink()
    (folder / "golden.npz").write_bytes(b"half")
    assert local.publish(bundles[0]) == version
    assert load_bundle(folder).version == version


def test_what_is_no_sound_bundle_is_not_published(registry: Registry, bundles: list[Path], tmp_path: Path) -> None:
    (bundles[0] / "calibration.npz").unlink()
    (bundles[1] / MANIFEST).write_bytes(b"{")
    for folder in (bundles[0], bundles[1], tmp_path / "nothing"):
        with pytest.raises(BundleError):
            registry.publish(folder)
    assert registry.models() == []


@pytest.mark.parametrize("name", ["../../evil", "..", "a/b", "", ".hidden", "a*", "a\n", "ä" * 5])
def test_no_name_leads_out_of_the_registry(local: Registry, tmp_path: Path, machines_bundle: Bundle, name: str) -> None:
    folder = bundle_created("2026-01-01T00:00:00+00:00", tmp_path / "evil", machines_bundle, model=name)
    calls: list[Callable[[], object]] = [
        lambda: local.publish(folder),
        lambda: local.fetch(name, "v"),
        lambda: local.fetch("machines", name),
        lambda: local.promote("machines", name, author="human", reason=""),
        lambda: local.champion(name),
        lambda: local.versions(name),
    ]
    for call in calls:
        with pytest.raises(BundleError, match="is no name of a model or version"):
            call()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil"]


def test_an_unknown_version_is_answered_with_the_known_ones(registry: Registry, bundles: list[Path]) -> None:
    with pytest.raises(BundleError, match=r"models/machines/v9: no such version .*found none\)"):
        registry.fetch("machines", "v9")
    version = registry.publish(bundles[0])
    with pytest.raises(BundleError, match=rf"expected one of the known, found {version}\)"):
        registry.fetch("machines", "v9")
    with pytest.raises(BundleError, match="no such version in the registry"):
        registry.promote("machines", "v9", author="human", reason="")


def test_a_model_without_champion_is_answered_with_the_remedy(registry: Registry, bundles: list[Path]) -> None:
    with pytest.raises(
        BundleError, match=r"model 'presses' has no champion; `ganwatch train .*the registry holds no models\)"
    ):
        registry.champion("presses")
    registry.publish(bundles[0])
    with pytest.raises(BundleError, match=r"the registry holds machines\)"):
        registry.champion("presses")


def test_the_last_promotion_is_the_champion_and_the_log_keeps_all(registry: Registry, bundles: list[Path]) -> None:
    versions = [registry.publish(bundle) for bundle in bundles]
    for version in (*versions, versions[0]):
        registry.promote("machines", version, author="human", reason=f"try {version}", now=NOW)
        assert registry.champion("machines") == version
    log = registry.promotions("machines")
    assert [entry.champion for entry in log] == [*versions, versions[0]]
    assert len({entry.id for entry in log}) == 4
    assert msgspec.structs.replace(log[1], id="") == Promotion(
        champion=versions[1],
        challenger=None,
        anchor=versions[0],
        time="2026-03-01T12:00:00+00:00",
        author="human",
        reason=f"try {versions[1]}",
    )


def test_promotions_are_numbered_files_of_plain_json(local: Registry, bundles: list[Path], tmp_path: Path) -> None:
    version = local.publish(bundles[0])
    for _ in range(2):
        local.promote("machines", version, author="gate", reason="better", now=NOW)
    folder = tmp_path / "registry" / "aliases" / "machines"
    assert sorted(file.name for file in folder.iterdir()) == ["000001.json", "000002.json"]
    assert json.loads((folder / "000002.json").read_text())["author"] == "gate"


def test_the_log_goes_on_beyond_a_million_entries(local: Registry, bundles: list[Path], tmp_path: Path) -> None:
    versions = [local.publish(bundle) for bundle in bundles[:2]]
    local.promote("machines", versions[0], author="human", reason="")
    folder = tmp_path / "registry" / "aliases" / "machines"
    (folder / "000001.json").rename(folder / "999999.json")
    for version in (versions[1], versions[0]):
        local.promote("machines", version, author="human", reason="")
        assert local.champion("machines") == version
    assert [entry.champion for entry in local.promotions("machines")] == [versions[0], versions[1], versions[0]]


def test_foreign_files_in_the_log_s_folder_are_overlooked(local: Registry, bundles: list[Path], tmp_path: Path) -> None:
    version = local.publish(bundles[0])
    local.promote("machines", version, author="human", reason="")
    folder = tmp_path / "registry" / "aliases" / "machines"
    for name in (".000002.json-x1", "000002.json.tmp", "9-notes.json", "README"):
        (folder / name).write_text("not an entry")
    assert local.champion("machines") == version
    assert len(local.promotions("machines")) == 1


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"null", b"\xff", b'{"champion":"v","time":"","author":"","reason":"","x":1}']
)
def test_a_damaged_entry_is_named(local: Registry, bundles: list[Path], tmp_path: Path, content: bytes) -> None:
    local.promote("machines", local.publish(bundles[0]), author="human", reason="")
    entry = tmp_path / "registry" / "aliases" / "machines" / "000001.json"
    entry.write_bytes(content)
    for call in (local.champion, local.promotions):
        with pytest.raises(BundleError) as caught:
            call("machines")
        assert str(caught.value).startswith(f"{entry}: cannot be understood: ")


def test_an_unknown_protocol_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="registry 'nosuch://models': "):
        Registry("nosuch://models")


def test_a_protocol_whose_package_is_missing_is_a_configuration_error() -> None:
    known = ["gcs", "abfs", "s3", "webhdfs", "dropbox", "oss"]
    urls = [f"{protocol}://bucket/models" for protocol in known]
    problems = []
    for url in urls:
        try:
            fsspec.core.url_to_fs(url)
        except ImportError:
            with pytest.raises(ConfigError) as caught:
                Registry(url)
            problems.append(str(caught.value))
        except Exception:  # noqa: S112 - installed here, but without credentials
            continue
    assert problems
    assert all("nstall" in problem for problem in problems)


def test_opening_a_registry_creates_nothing(tmp_path: Path) -> None:
    Registry(str(tmp_path / "registry")).models()
    assert list(tmp_path.iterdir()) == []
