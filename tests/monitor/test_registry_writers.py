"""The registry under several writers at once, on a disk and on an S3 server: no entry is lost, none is torn, one wins."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from monitor.model.registry import Registry
from monitor.model.store import open_store


@pytest.fixture(params=["folder", "s3"])
def shared_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place that several processes reach."""
    return str(tmp_path / "registry") if request.param == "folder" else f"{request.getfixturevalue('s3')()}/models"


def run_all(works: list[Callable[[], None]]) -> None:
    """Runs all at once, each in a thread."""
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def promote_many(url: str, version: str, writer: str, times: int) -> None:
    for number in range(times):
        Registry(url).promote("machines", version, author="human", reason=f"{writer} {number}")


def assert_no_promotion_was_lost(url: str, writers: list[str], times: int) -> None:
    log = Registry(url).promotions("machines")
    assert len(log) == len(writers) * times
    for writer in writers:
        own = [entry.reason for entry in log if entry.reason.startswith(f"{writer} ")]
        assert own == [f"{writer} {number}" for number in range(times)]
    names = [path.rpartition("/")[2] for path in open_store(url).files("aliases/machines")]
    assert names == [f"{number:06d}.json" for number in range(1, len(log) + 1)]


def test_threads_that_promote_at_once_lose_no_entry(shared_url: str, bundles: list[Path]) -> None:
    versions = [Registry(shared_url).publish(bundle) for bundle in bundles]
    run_all([lambda version=version: promote_many(shared_url, version, version, 8) for version in versions])  # type: ignore[misc]
    assert_no_promotion_was_lost(shared_url, versions, 8)


def test_processes_that_promote_at_once_lose_no_entry(shared_url: str, bundles: list[Path]) -> None:
    versions = [Registry(shared_url).publish(bundle) for bundle in bundles[:2]]
    context = multiprocessing.get_context("spawn")
    work = [(shared_url, version, version, 15) for version in versions]
    processes = [context.Process(target=promote_many, args=arguments) for arguments in work]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert_no_promotion_was_lost(shared_url, versions, 15)


def test_a_reader_beside_a_writer_never_sees_a_torn_entry(shared_url: str, bundles: list[Path]) -> None:
    registry = Registry(shared_url)
    version = registry.publish(bundles[0])
    registry.promote("machines", version, author="human", reason="first")
    writer = threading.Thread(target=promote_many, args=(shared_url, version, "writer", 20))
    writer.start()
    while writer.is_alive():
        assert registry.champion("machines") == version
    writer.join()
    assert len(registry.promotions("machines")) == 21


def test_of_writers_that_create_one_file_exactly_one_wins_and_its_content_stays(shared_url: str) -> None:
    for round_number in range(10):
        path = f"aliases/machines/{round_number:06d}.json"
        barrier, won = threading.Barrier(8), []

        def create(writer: int, path: str = path, barrier: threading.Barrier = barrier, won: list[int] = won) -> None:
            store = open_store(shared_url)
            barrier.wait()
            if store.create(path, f"writer {writer}".encode()):
                won.append(writer)

        run_all([lambda writer=writer: create(writer) for writer in range(8)])  # type: ignore[misc]
        assert len(won) == 1
        assert open_store(shared_url).read(path) == f"writer {won[0]}".encode()


def test_of_guards_that_roll_back_at_once_exactly_one_does(shared_url: str, bundles: list[Path]) -> None:
    registry = Registry(shared_url)
    versions = [registry.publish(bundle) for bundle in bundles]
    for version in versions:
        registry.promote("machines", version, author="gate", reason="passed")
    written = []

    def roll_back() -> None:
        entry = Registry(shared_url).rollback("machines", author="guard", reason="too many", champion=versions[2])
        written.append(entry)

    run_all([roll_back] * 4)
    assert [entry.champion for entry in written if entry] == [versions[1]]
    assert len(registry.promotions("machines")) == 4
    assert registry.champion("machines") == versions[1]


def test_of_gates_that_decided_on_the_same_champion_exactly_one_promotes(shared_url: str, bundles: list[Path]) -> None:
    registry = Registry(shared_url)
    versions = [registry.publish(bundle) for bundle in bundles]
    registry.promote("machines", versions[0], author="human", reason="first")
    written = []

    def promote(version: str) -> None:
        gate = Registry(shared_url)
        entry = gate.promote_after("machines", version, champion=versions[0], author="gate", reason="passed")
        written.append(entry)

    run_all([lambda version=version: promote(version) for version in versions[1:] * 2])  # type: ignore[misc]
    assert len([entry for entry in written if entry]) == 1
    assert len(registry.promotions("machines")) == 2


def test_bundles_that_are_published_at_once_are_all_whole(shared_url: str, bundles: list[Path]) -> None:
    versions: list[str] = []
    run_all([lambda folder=folder: versions.append(Registry(shared_url).publish(folder)) for folder in bundles * 2])  # type: ignore[misc]
    assert Registry(shared_url).versions("machines") == sorted(set(versions))
    for version in set(versions):
        assert Registry(shared_url).load("machines", version).version == version
