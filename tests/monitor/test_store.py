"""The store: whole files or none, on a disk, on an S3 server and in memory, and errors that say where and why."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.errors import BundleError
from monitor.model.bundle import Bundle
from monitor.model.registry import Registry
from monitor.model.store import Store, open_store
from tests.bundles import bundle_created


@pytest.fixture
def store(registry_url: str) -> Store:
    return open_store(registry_url)


def test_a_file_is_written_read_replaced_and_removed(store: Store) -> None:
    assert store.read("a/b.json") is None
    store.write("a/b.json", b"one")
    assert store.read("a/b.json") == b"one"
    store.write("a/b.json", b"two")
    assert store.read("a/b.json") == b"two"
    store.remove("a/b.json")
    store.remove("a/b.json")
    assert store.read("a/b.json") is None


def test_many_files_are_read_in_their_order_and_missing_ones_are_none(store: Store) -> None:
    assert store.read_many([]) == []
    for number in range(30):
        store.write(f"a/{number}.json", str(number).encode())
    paths = [f"a/{number}.json" for number in (7, 30, 0, 29)]
    assert store.read_many(paths) == [b"7", None, b"0", b"29"]
    assert store.read_many(["a/nothing"]) == [None]


def test_a_file_is_created_once(store: Store) -> None:
    assert store.create("a/1.json", b"first")
    assert not store.create("a/1.json", b"second")
    assert store.read("a/1.json") == b"first"


def test_files_are_listed_at_any_depth_in_order_and_relative(store: Store) -> None:
    assert store.files("a") == []
    for path in ("a/x/2.json", "a/1.json", "b/3.json", "a/x/y/4.json"):
        store.write(path, b"")
    assert store.files("a") == ["a/1.json", "a/x/2.json", "a/x/y/4.json"]
    assert store.files("a/x/y") == ["a/x/y/4.json"]


def test_what_is_hidden_or_no_file_does_not_count(tmp_path: Path) -> None:
    for path in ("a/1.json", "a/.1.json-x", "a/.git/2.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("{}")
    (tmp_path / "a/3.json").symlink_to("nowhere")
    assert open_store(str(tmp_path)).files("a") == ["a/1.json"]


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(BundleError, match=r"/a: cannot be listed: Too many levels of symbolic links"):
        open_store(str(tmp_path)).files("a")


def test_what_another_client_wrote_is_seen_at_once(registry_url: str) -> None:
    one, other = open_store(registry_url), open_store(registry_url)
    assert (one.files("a"), one.read("a/1")) == ([], None)
    other.write("a/1", b"new")
    assert (one.files("a"), one.read("a/1")) == (["a/1"], b"new")
    other.remove("a/1")
    assert (one.files("a"), one.read("a/1")) == ([], None)


def test_only_a_folder_lies_on_this_disk(registry_url: str) -> None:
    assert open_store(registry_url).folder == (Path(registry_url) if "://" not in registry_url else None)


def test_a_missing_bucket_is_named(s3: Callable[[], str]) -> None:
    store = open_store(f"{s3()}-not/models")
    with pytest.raises(BundleError, match=r"^s3://.*-not/models/a/1: cannot be written: .*bucket does not exist"):
        store.write("a/1", b"")
    assert store.files("a") == []


def test_a_server_that_cannot_be_reached_is_an_error_of_ours(
    s3: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = s3()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("s3fs.core.S3FileSystem.retries", 1)
    import s3fs

    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(BundleError, match=r"aliases/machines: cannot be listed: .*127\.0\.0\.1:9"):
            Registry(url).champion("machines")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    store = open_store(str(tmp_path / "file"))
    with pytest.raises(BundleError, match=r"file/a/1: cannot be written: (Not a directory|File exists)"):
        store.create("a/1", b"")
    assert store.read("a/1") is None


FILL = """
import resource, signal, sys
from pathlib import Path
from monitor.errors import BundleError
from monitor.model.registry import Registry
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    Registry(sys.argv[1]).publish(Path(sys.argv[2]))
except BundleError as error:
    print(error)
"""


def test_a_disk_that_takes_no_more_leaves_the_registry_whole(local: Registry, bundles: list[Path]) -> None:
    version = local.publish(bundles[0])
    local.promote("machines", version, author="human", reason="first")
    done = subprocess.run(
        [sys.executable, "-c", FILL, local.url, bundles[1]], capture_output=True, text=True, check=False,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert "scorer.tflite: cannot be written: File too large" in done.stdout, done.stderr
    assert (local.versions("machines"), local.champion("machines")) == ([version], version)
    assert not [file for file in Path(local.url).rglob("*") if file.is_file() and file.name.startswith(".")]
    second = local.publish(bundles[1])
    assert local.load("machines", second).version == second


def downloads() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("ganwatch-machines-*"))


def test_loading_a_remote_bundle_leaves_nothing_on_the_disk(
    s3: Callable[[], str], tmp_path: Path, machines_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(f"{s3()}/models")
    version = registry.publish(bundle_created("2026-01-01T00:00:00+00:00", tmp_path / "bundle", machines_bundle))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # others test at the same time
    before = downloads()
    bundle = registry.load("machines", version)
    assert downloads() == before
    assert bundle.version == version
    folder = registry.fetch("machines", version)
    assert downloads() - before == {folder.parent}
    del registry
    gc.collect()
    assert downloads() == before


def test_where_there_is_no_room_for_a_remote_bundle_the_error_is_ours(
    s3: Callable[[], str], tmp_path: Path, machines_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(f"{s3()}/models")
    version = registry.publish(bundle_created("2026-01-01T00:00:00+00:00", tmp_path / "bundle", machines_bundle))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    for read in (registry.load, registry.fetch):
        with pytest.raises(BundleError, match=r"^temporary files: cannot be written: No such file .*set TMPDIR"):
            read("machines", version)
