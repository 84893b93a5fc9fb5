"""Eight processes on one name, by way of both gateways: nobody loses anything, and one wins."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.ceph.rig import at_once, opened
from tests.rigs.processes import (
    LARGE,
    Answer,
    delete_all,
    load_many,
    overwrite_and_delete,
    pop_one,
    save_explicit,
    save_many,
    save_one,
)
from tests.support import fresh_name

WRITERS = 8
EACH = 50


@pytest.fixture(autouse=True, scope="module")
def _server(gateways: list[str]) -> None:
    # The server that forks keeps a few files open from then on.
    at_once(gateways, fresh_name(), [(save_one, "a")])


@pytest.fixture
def place(gateways: list[str]) -> str:
    """A prefix with a registry in it, so that the race is not for its settings."""
    return make(gateways)


def make(gateways: list[str], *, mutable: bool = False) -> str:
    prefix = fresh_name()

    async def create() -> None:
        async with opened(gateways[0], prefix, mutable=mutable) as registry:
            await registry.save("something else", 1)

    asyncio.run(create())
    return prefix


def no_errors(answers: list[Answer]) -> None:
    assert [answer.errors for answer in answers] == [[]] * len(answers)


def test_eight_processes_save_one_name_and_none_is_lost_or_refused(
    gateways: list[str], place: str
) -> None:
    began = time.monotonic()
    answers = at_once(gateways, place, [(save_many, EACH)] * WRITERS)
    took = time.monotonic() - began
    no_errors(answers)
    saved = [one for answer in answers for one in answer.results]
    expected = [f"1.0.{number}" for number in range(WRITERS * EACH)]
    assert sorted((version for version, _ in saved), key=expected.index) == expected

    async def check() -> None:
        for url in gateways:
            async with opened(url, place) as registry:
                assert await registry.list_versions("x") == expected
                loaded = await registry.load([f"x@{version}" for version, _ in saved])
                assert list(loaded) == [value for _, value in saved]

    asyncio.run(check())
    lost = sum(answer.refused for answer in answers)
    print(f"{len(saved)} saves by {WRITERS} processes in {took:.1f} s: {lost} races were lost")
    assert lost > 0, "there was no contention"


def test_explicit_saves_of_the_same_versions_have_one_winner_each(
    gateways: list[str], place: str
) -> None:
    answers = at_once(gateways, place, [(save_explicit, 20)] * WRITERS)
    no_errors(answers)
    won = {version: number for number, answer in enumerate(answers) for version in answer.results}
    assert sum(len(answer.results) for answer in answers) == len(won) == 20

    async def check() -> None:
        async with opened(gateways[1], place) as registry:
            for version, number in won.items():
                assert await registry.load("x", version) == number, "not the winner's object"

    asyncio.run(check())
    print(f"20 versions wanted by {WRITERS}: {sum(answer.refused for answer in answers)} refused")


def test_of_eight_processes_that_pop_one_object_one_wins(gateways: list[str]) -> None:
    for mutable in (False, True):
        prefix = make(gateways, mutable=mutable)
        answers = at_once(gateways, prefix, [(pop_one, "something else")] * WRITERS)
        no_errors(answers)
        assert [answer.results for answer in answers if answer.results is not None] == [1]


def test_overwriting_and_deleting_never_shows_a_reader_anything_torn(gateways: list[str]) -> None:
    prefix = make(gateways, mutable=True)
    jobs = [(overwrite_and_delete, 20)] * (WRITERS - 2) + [(load_many, 150)] * 2
    answers = at_once(gateways, prefix, jobs)
    no_errors(answers[-2:])
    # Ceph answers 500 to the loser of a race, which tells nothing. Where three others have replaced
    # the record by the time it is read back, nobody can tell any more, and the writer is told so.
    errors = [error for answer in answers for error in answer.errors]
    assert all(error.startswith("CommitUnknown: ") for error in errors), errors
    seen = answers[-1].results + answers[-2].results
    print(f"{len(seen)} of 300 loads found it, {len(set(seen))} kinds of size and content; "
          f"{len(errors)} of {WRITERS - 2} writers met a doubt")  # fmt: skip
    assert seen, "the readers never saw the object"
    assert set(seen) <= {(10, 1), (LARGE, 1)}, "a torn value was loaded"


def test_deleting_all_beside_savers_loses_no_later_save_and_revives_nothing(
    gateways: list[str], place: str
) -> None:
    answers = at_once(gateways, place, [(save_many, 20)] * 4 + [(delete_all, 20)] * 2)
    no_errors(answers)
    saved = {version: value for answer in answers[:4] for version, value in answer.results}
    assert len(saved) == 80, "a number was used twice"
    deleted = sum(answer.results for answer in answers[4:])

    async def check() -> int:
        async with opened(gateways[1], place) as registry:
            left = await registry.list_versions("x")
            for version in left:
                assert await registry.load("x", version) == saved[version]
            assert await registry.save("x", "last") == f"1.0.{len(saved)}"
            return len(left)

    left = asyncio.run(check())
    print(f"80 saves beside {deleted} deletions of all: {left} versions are left")
    assert deleted > 0


def test_processes_that_create_a_registry_agree_on_its_settings(gateways: list[str]) -> None:
    prefix = fresh_name()
    answers = at_once(gateways, prefix, [(save_one, f"x{number}") for number in range(WRITERS)])
    no_errors(answers)
    assert len({answer.results.split()[1] for answer in answers}) == 1
