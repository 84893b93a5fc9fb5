"""Several processes on one directory at once (rig R8; lessons L2, L3 and L9)."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from asyncstore import AsyncRegistry
from asyncstore.errors import RegistrySettingsConflict
from tests.rigs.processes import (
    LARGE,
    Answer,
    at_once,
    delete_all,
    load_many,
    overwrite_and_delete,
    pop_one,
    save_explicit,
    save_many,
    save_one,
    warm_up,
)

WRITERS = 8
EACH = 50
ALL = [f"1.0.{number}" for number in range(WRITERS * EACH)]


@pytest.fixture(autouse=True, scope="module")
def _server(tmp_path_factory: pytest.TempPathFactory) -> None:
    warm_up(tmp_path_factory.mktemp("nothing"))


either_kind = pytest.mark.parametrize("mutable", [False, True], ids=["immutable", "mutable"])


def no_errors(answers: list[Answer]) -> None:
    assert [answer.errors for answer in answers] == [[]] * len(answers)


async def check_all_saved(root: Path, saved: list[tuple[str, object]]) -> None:
    """All of the versions, each once, and each loads with the value of its writer."""
    assert sorted((version for version, _ in saved), key=ALL.index) == ALL
    registry = AsyncRegistry(root)
    assert await registry.list_versions("x") == ALL
    loaded = await registry.load([f"x@{version}" for version, _ in saved])
    assert list(loaded) == [value for _, value in saved]
    await registry.aclose()


@either_kind
def test_l3_eight_processes_save_one_name_and_none_is_lost_or_refused(
    tmp_path: Path, mutable: bool
) -> None:
    answers = at_once(tmp_path, [(save_many, EACH)] * WRITERS, mutable=mutable)
    no_errors(answers)
    saved = [one for answer in answers for one in answer.results]
    asyncio.run(check_all_saved(tmp_path, saved))
    lost = sum(answer.refused for answer in answers)
    print(f"{len(saved)} saves by {WRITERS} processes: {lost} races for a number were lost")
    assert lost > 0, "there was no contention"


@either_kind
@pytest.mark.asyncio
async def test_l3_sixty_four_tasks_save_one_name(tmp_path: Path, mutable: bool) -> None:
    async with AsyncRegistry(tmp_path, mutable=mutable, durability="fast") as registry:
        values = list(range(64))
        versions = await asyncio.gather(
            *(registry.save("x", value, on_conflict="error") for value in values)
        )
        assert sorted(versions, key=ALL.index) == ALL[:64]
        assert list(await registry.load([f"x@{version}" for version in versions])) == values


@pytest.mark.asyncio
async def test_l3_sixty_four_tasks_with_registries_of_their_own(tmp_path: Path) -> None:
    """They share no queue, so they race as processes do."""
    registries = [AsyncRegistry(tmp_path, durability="fast") for _ in range(64)]
    versions = await asyncio.gather(
        *(registry.save("x", value) for value, registry in enumerate(registries))
    )
    assert sorted(versions, key=ALL.index) == ALL[:64]
    for value, version in enumerate(versions):
        assert await registries[0].load("x", version) == value
    for registry in registries:
        await registry.aclose()


def test_explicit_saves_of_the_same_versions_have_one_winner_each(tmp_path: Path) -> None:
    answers = at_once(tmp_path, [(save_explicit, 20)] * WRITERS)
    no_errors(answers)
    won = [version for answer in answers for version in answer.results]
    assert sorted(won) == sorted(f"1.{turn}.0" for turn in range(20))
    lost = sum(answer.refused for answer in answers)
    print(f"20 versions wanted by {WRITERS} processes: {lost} races were lost")
    assert lost > 0


@either_kind
def test_l9_of_eight_processes_that_pop_one_object_one_wins(tmp_path: Path, mutable: bool) -> None:
    rounds = 3

    async def prepare() -> None:
        async with AsyncRegistry(tmp_path, mutable=mutable) as registry:
            for number in range(rounds):
                await registry.save(f"x{number}", number)

    asyncio.run(prepare())
    for number in range(rounds):
        answers = at_once(tmp_path, [(pop_one, f"x{number}")] * WRITERS)
        no_errors(answers)
        assert [answer.results for answer in answers if answer.results is not None] == [number]


def test_l10_overwriting_and_deleting_never_shows_a_reader_anything_torn(tmp_path: Path) -> None:
    jobs = [(overwrite_and_delete, 30)] * WRITERS + [(load_many, 600)]
    answers = at_once(tmp_path, jobs, mutable=True)
    no_errors(answers)
    seen = answers[-1].results
    print(f"{len(seen)} of 600 loads found it, {len(set(seen))} kinds of size and content")
    assert seen, "the reader never saw the object"
    assert set(seen) <= {(10, 1), (LARGE, 1)}, "a torn value was loaded"


def test_two_processes_that_create_a_registry_agree_on_its_settings(tmp_path: Path) -> None:
    for attempt in range(5):
        answers = at_once(tmp_path / str(attempt), [(save_one, "a"), (save_one, "b")])
        no_errors(answers)
        (_, one), (_, other) = (answer.results.split() for answer in answers)
        assert one == other, "each has created a registry of its own"


def test_of_two_settings_one_wins_and_the_other_is_refused(tmp_path: Path) -> None:
    kinds = {"0": {"mutable": True}, "1": {"mutable": False}}
    for attempt in range(5):
        root = tmp_path / str(attempt)
        answers = at_once(root, [(save_one, "a"), (save_one, "b")], **kinds)
        refused = [answer for answer in answers if answer.errors]
        assert len(refused) == 1
        assert refused[0].errors[0].startswith(RegistrySettingsConflict.__name__)


def test_deleting_all_beside_savers_loses_no_later_save_and_revives_nothing(
    tmp_path: Path,
) -> None:
    jobs = [(save_many, 30)] * 4 + [(delete_all, 30)] * 2
    answers = at_once(tmp_path, jobs)
    no_errors(answers)
    saved = {version: value for answer in answers[:4] for version, value in answer.results}
    assert len(saved) == 120, "a number was used twice"
    deleted = sum(answer.results for answer in answers[4:])

    async def check() -> list[str]:
        async with AsyncRegistry(tmp_path) as registry:
            left = await registry.list_versions("x")
            for version in left:
                assert await registry.load("x", version) == saved[version]
            assert await registry.save("x", "last") == f"1.0.{len(saved)}"
            return left

    left = asyncio.run(check())
    print(f"120 saves beside {deleted} deletions of all: {len(left)} versions are left")
    assert deleted > 0
