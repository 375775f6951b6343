"""The lease: one trainer at a time, and none that died keeps the others waiting for ever."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from monitor.errors import BundleError
from monitor.model.lease import Lease, renewed_in_background
from monitor.model.registry import Registry
from monitor.model.store import open_store


@dataclass
class Clock:
    now: float = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def leases(registry: Registry, clock: Clock, *holders: str) -> list[Lease]:
    return [Lease(registry.store, "machines", holder=holder, ttl_s=60, clock=clock) for holder in holders]


def test_the_second_one_is_told_who_holds_it_and_until_when(registry: Registry) -> None:
    clock = Clock()
    one, other = leases(registry, clock, "host a", "host b")
    assert one.acquire() is None
    entry = other.acquire()
    assert entry is not None
    assert (entry.holder, entry.expires, entry.time) == ("host a", 1_000_060.0, "1970-01-12T13:46:40+00:00")
    assert (one.held(), other.held()) == (True, False)


def test_a_lease_that_was_given_back_is_free(registry: Registry) -> None:
    one, other = leases(registry, Clock(), "a", "b")
    one.acquire()
    other.release()
    assert one.held()
    one.release()
    assert not one.held()
    assert other.acquire() is None


def test_the_lease_of_one_that_died_expires(registry: Registry) -> None:
    clock = Clock()
    dead, living = leases(registry, clock, "dead", "living")
    dead.acquire()
    clock.now += 59.9
    assert living.acquire() is not None
    clock.now += 0.1
    assert living.acquire() is None
    assert (dead.held(), dead.renew()) == (False, False)
    dead.release()
    assert living.held()


def test_renewing_puts_the_expiry_off_and_leaves_a_few_entries(registry: Registry) -> None:
    clock = Clock()
    one, other = leases(registry, clock, "a", "b")
    one.acquire()
    for _ in range(20):
        clock.now += 30
        assert one.renew()
    assert one.held()
    assert other.acquire() is not None
    assert len(registry.store.files("leases/machines")) <= 6


def test_models_are_leased_one_by_one(local: Registry) -> None:
    first = Lease(local.store, "machines", holder="a", ttl_s=60)
    second = Lease(local.store, "presses", holder="b", ttl_s=60)
    assert (first.acquire(), second.acquire()) == (None, None)


def test_of_many_that_ask_at_once_exactly_one_gets_it(registry_url: str) -> None:
    barrier, taken = threading.Barrier(8), []

    def ask(number: int) -> None:
        lease = Lease(open_store(registry_url), "machines", holder=str(number), ttl_s=60)
        barrier.wait()
        if lease.acquire() is None:
            taken.append(number)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1


def test_work_that_takes_longer_than_the_lease_keeps_it(local: Registry) -> None:
    one = Lease(local.store, "machines", holder="a", ttl_s=0.4)
    other = Lease(local.store, "machines", holder="b", ttl_s=0.4)
    assert one.acquire() is None
    with renewed_in_background(one, every_s=0.1):
        time.sleep(0.8)
        assert one.held()
        assert other.acquire() is not None
    assert other.acquire() is None


def test_one_that_lost_its_lease_does_not_give_back_another_s(local: Registry) -> None:
    clock = Clock()
    one, other = leases(local, clock, "a", "b")
    one.acquire()
    with renewed_in_background(one, every_s=30):
        clock.now += 61
        assert other.acquire() is None
    assert other.held()


def test_a_registry_that_cannot_be_written_to_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("no folder")
    lease = Lease(open_store(str(tmp_path / "registry")), "machines", holder="a", ttl_s=60)
    with pytest.raises(BundleError, match="cannot be written"):
        lease.acquire()


def test_a_killed_holder_leaves_a_lease_that_expires(local: Registry) -> None:
    code = (
        "import sys, time; from monitor.model.lease import Lease, renewed_in_background; "
        "from monitor.model.store import open_store\n"
        "lease = Lease(open_store(sys.argv[1]), 'machines', holder='killed', ttl_s=1.0)\n"
        "assert lease.acquire() is None\n"
        "with renewed_in_background(lease, every_s=0.2):\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", code, local.url], cwd=root, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        lease = Lease(local.store, "machines", holder="next", ttl_s=60)
        time.sleep(1.2)
        assert lease.acquire() is not None
        holder.kill()
    time.sleep(1.2)
    assert lease.acquire() is None
