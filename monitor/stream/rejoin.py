"""Lets the client's group membership survive short polls: two mends of kafka-python 3.0.12, on one consumer.

A poll may end while JoinGroup and SyncGroup are under way; the client leaves them running and means to take their result in the
next poll. It fails to in two cases, both found on a real broker:

- The rejoin was wanted because the topic's metadata changed (its partitions became known late, or more were added). That wish is
  forgotten once the leader has assigned, so nobody takes the result: the member has no partitions and sends no heartbeats, for
  ever. Apache Kafka had the same in its Java client (KAFKA-9815) and mends it in the same way, by remembering the wish.
- The result arrives between two polls. It is thrown away and the member joins anew, and with polls that do not wait, as while the
  partitions are paused, it does so again and again.
"""

from __future__ import annotations

from typing import Any

from kafka.structs import MemberState


def take_every_join(consumer: Any) -> None:
    """Mends one `KafkaConsumer`; to be called before its first poll."""
    coordinator = consumer._coordinator  # noqa: SLF001 - there is no public place for it
    _remember_the_wish(coordinator)
    _keep_the_result(coordinator)


def _remember_the_wish(coordinator: Any) -> None:
    need_rejoin = coordinator.need_rejoin

    def remembered() -> bool:
        if not need_rejoin():
            return False
        coordinator.request_rejoin()  # stands until a join is complete
        return True

    coordinator.need_rejoin = remembered


def _keep_the_result(coordinator: Any) -> None:
    join_and_sync = coordinator._do_join_and_sync_async  # noqa: SLF001
    kept: tuple[Any, bytes] | None = None  # the generation that was joined, and what it assigned to us

    async def kept_or_new() -> bytes:
        nonlocal kept
        # A result that was taken has made the member stable; one that is out of date has another generation.
        not_taken = coordinator.state is MemberState.REBALANCING
        if not_taken and kept is not None and kept[0] is coordinator._generation:  # noqa: SLF001
            return kept[1]
        kept = None
        assignment: bytes = await join_and_sync()
        kept = coordinator._generation, assignment  # noqa: SLF001
        return assignment

    coordinator._do_join_and_sync_async = kept_or_new  # noqa: SLF001
