"""From outcomes to verdicts: all outcomes of up to three mounts, against an oracle of its own."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping

import pytest

from asyncstore import BackendError
from asyncstore.settings import DiscoveryMode
from asyncstore.verdicts import (
    Ambiguous,
    Chosen,
    Failure,
    Hit,
    Incomplete,
    Miss,
    NotThere,
    Outcome,
    Verdict,
    judge,
    judge_all,
    judge_any,
)

DOWN = BackendError("down")
OUTCOMES: list[Outcome] = [
    Hit((1, 0, 0)),
    Hit((2, 0, 0)),
    Hit((2, 0)),
    Miss(),
    Miss(has_name=True),
    Failure(DOWN),
]
MODES: list[DiscoveryMode] = ["unique", "first", "unsafe-newest"]


def combinations() -> Iterator[dict[str, Outcome]]:
    for count in range(4):
        for outcomes in itertools.product(OUTCOMES, repeat=count):
            yield dict(zip("abc", outcomes, strict=False))


def expected(mode: str, outcomes: Mapping[str, Outcome]) -> tuple[object, ...]:
    """What the contract says, in its own words: the kind of verdict and what matters of it."""
    hits = [mount for mount, outcome in outcomes.items() if isinstance(outcome, Hit)]
    down = [mount for mount, outcome in outcomes.items() if isinstance(outcome, Failure)]
    if mode == "first":
        for mount, outcome in outcomes.items():
            if isinstance(outcome, Failure):
                return ("incomplete",)
            if isinstance(outcome, Hit):
                return ("chosen", mount)
            if isinstance(outcome, Miss) and outcome.has_name:
                return ("not there",)
        return ("not there",)
    if mode == "unsafe-newest":
        if down:
            return ("incomplete", hits, down)
        numbers = {at: [*outcomes[at].version, 0, 0, 0][:3] for at in hits}  # type: ignore[union-attr]
        hits = [at for at in hits if numbers[at] == max(numbers.values())]
    if len(hits) >= 2:
        return ("ambiguous", hits, down)
    if down:
        return ("incomplete", hits, down)
    return ("chosen", hits[0]) if hits else ("not there",)


def described(mode: str, verdict: Verdict | None) -> tuple[object, ...]:
    match verdict:
        case Chosen(location):
            return ("chosen", location)
        case NotThere():
            return ("not there",)
        case Ambiguous(locations, errors):
            return ("ambiguous", list(locations), list(errors))
        case Incomplete(hits, errors):
            return ("incomplete",) if mode == "first" else ("incomplete", list(hits), list(errors))
    return ("open",)


@pytest.mark.parametrize("mode", MODES)
def test_every_combination_is_judged_as_the_contract_says(mode: DiscoveryMode) -> None:
    for outcomes in combinations():
        verdict = judge(mode, list(outcomes), outcomes)
        assert described(mode, verdict) == expected(mode, outcomes), outcomes


@pytest.mark.parametrize("mode", MODES)
def test_an_early_verdict_is_the_final_one_and_comes_as_soon_as_it_is_certain(
    mode: DiscoveryMode,
) -> None:
    for known in itertools.product([None, *OUTCOMES], repeat=3):
        given = {at: one for at, one in zip("abc", known, strict=True) if one is not None}
        completions = (
            dict(zip("abc", full, strict=True))
            for full in itertools.product(*([one] if one else OUTCOMES for one in known))
        )
        finals = {str(expected(mode, full)) for full in completions}
        early = judge(mode, list("abc"), given)
        if early is not None:
            assert finals == {str(described(mode, early))}
        elif mode == "first":
            assert len(finals) > 1
        else:
            assert len(given) < 3


def test_any_is_yes_with_a_hit_no_with_all_misses_and_else_open() -> None:
    for outcomes in combinations():
        answer = judge_any(list(outcomes), outcomes)
        kinds = {type(outcome) for outcome in outcomes.values()}
        if Hit in kinds:
            assert answer is True
        elif Failure in kinds:
            assert isinstance(answer, Incomplete)
        else:
            assert answer is False


def test_one_hit_is_enough_for_any() -> None:
    assert judge_any(["a", "b"], {"b": Hit((1,))}) is True
    assert judge_any(["a", "b"], {"b": Miss()}) is None


def test_all_lists_every_hit_in_mount_order_or_is_incomplete() -> None:
    for outcomes in combinations():
        mounts = list(reversed(outcomes))
        answer = judge_all(mounts, outcomes)
        hits = [mount for mount in mounts if isinstance(outcomes[mount], Hit)]
        if any(isinstance(outcome, Failure) for outcome in outcomes.values()):
            assert isinstance(answer, Incomplete)
            assert list(answer.hits) == hits
        else:
            assert answer == hits
