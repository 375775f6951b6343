"""Promotions: who was made champion, what a rollback leads to, and what a decision is worth when the champion has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from monitor.errors import BundleError
from monitor.model.promotions import Promotion, previous_champion
from monitor.model.registry import Registry


def entry(champion: str, action: str = "promote") -> Promotion:
    return Promotion(champion=champion, time="", author="human", reason="", action=action)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("log", "previous"),
    [
        ("", None),
        ("a", None),
        ("ab", "a"),
        ("abc", "b"),
        ("abb", "a"),
        ("aba", "b"),
        ("ab<a", None),
        ("abc<b", "a"),
        ("abc<b<a", None),
        ("abc<bd", "b"),
        ("ab<aca", "c"),
        ("a!ab", "a"),
        ("ab!b", "a"),
    ],
)
def test_a_rollback_leads_to_the_champion_before_and_never_to_one_that_was_rolled_back(
    log: str, previous: str | None
) -> None:
    actions = {"<": "rollback", "!": "challenge"}
    entries, action = [], "promote"
    for sign in log:
        if sign in actions:
            action = actions[sign]
        else:
            entries.append(entry(sign, action))
            action = "promote"
    assert previous_champion(entries) == previous


def test_rolling_back_step_by_step_reaches_the_first_champion_and_then_ends(
    registry: Registry, bundles: list[Path]
) -> None:
    versions = [registry.publish(bundle) for bundle in bundles]
    for version in versions:
        registry.promote("machines", version, author="gate", reason="passed")
    for expected in (versions[1], versions[0]):
        written = registry.rollback("machines", author="human", reason="too many alerts")
        assert written is not None
        assert (written.champion, written.action, written.author) == (expected, "rollback", "human")
        assert registry.champion("machines") == expected
    with pytest.raises(BundleError, match=r"no champion to go back to; `ganwatch models promote VERSION`"):
        registry.rollback("machines", author="human", reason="again")
    assert len(registry.promotions("machines")) == 5


def test_a_rollback_to_a_version_that_is_gone_is_refused(local: Registry, bundles: list[Path]) -> None:
    versions = [local.publish(bundle) for bundle in bundles[:2]]
    for version in versions:
        local.promote("machines", version, author="gate", reason="passed")
    local.store.remove(f"models/machines/{versions[0]}/manifest.json")
    with pytest.raises(BundleError, match=f"{versions[0]}: no such version"):
        local.rollback("machines", author="guard", reason="too many alerts")
    assert local.champion("machines") == versions[1]


def test_a_decision_about_an_earlier_champion_changes_nothing(registry: Registry, bundles: list[Path]) -> None:
    first, second, third = (registry.publish(bundle) for bundle in bundles)
    made = registry.promote_after("machines", first, champion=None, author="gate", reason="the first one")
    assert made is not None
    assert made.anchor == first
    registry.promote("machines", second, author="human", reason="by hand")
    assert registry.promote_after("machines", third, champion=first, author="gate", reason="passed") is None
    assert registry.rollback("machines", champion=first, author="guard", reason="too many alerts") is None
    assert registry.champion("machines") == second
    assert len(registry.promotions("machines")) == 2


def test_a_challenger_stands_beside_the_champion_until_the_next_promotion(
    registry: Registry, bundles: list[Path]
) -> None:
    first, second, _ = (registry.publish(bundle) for bundle in bundles)
    assert registry.challenge("machines", second, author="gate", reason="shadow") is None
    registry.promote("machines", first, author="human", reason="the first one")
    registry.challenge("machines", second, author="gate", reason="shadow")
    last = registry.last_promotion("machines")
    assert last is not None
    assert (last.champion, last.challenger, last.anchor, last.action) == (first, second, first, "challenge")
    registry.challenge("machines", None, author="gate", reason="refused")
    registry.promote("machines", second, author="gate", reason="passed")
    last = registry.last_promotion("machines")
    assert last is not None
    assert (last.champion, last.challenger, last.action) == (second, None, "promote")


def test_the_anchor_stays_until_it_is_named_anew(registry: Registry, bundles: list[Path]) -> None:
    first, second, third = (registry.publish(bundle) for bundle in bundles)
    for version in (first, second):
        assert registry.promote("machines", version, author="gate", reason="passed").anchor == first
    assert registry.promote("machines", third, author="human", reason="a new age", anchor=third).anchor == third
    back = registry.rollback("machines", author="human", reason="not yet")
    assert back is not None
    assert (back.champion, back.anchor) == (second, third)


def test_a_log_that_was_written_before_actions_were_kept_is_read(local: Registry, bundles: list[Path]) -> None:
    version = local.publish(bundles[0])
    old = f'{{"champion":"{version}","challenger":null,"anchor":"{version}","time":"t","author":"human","reason":"r"}}'
    local.store.write("aliases/machines/000001.json", old.encode())
    assert local.promotions("machines") == [
        Promotion(champion=version, anchor=version, time="t", author="human", reason="r", action="promote")
    ]
