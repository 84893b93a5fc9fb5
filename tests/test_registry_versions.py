"""Versions: how they are numbered, written, found, and kept dead once deleted."""

from __future__ import annotations

import asyncio

import pytest

from asyncstore import (
    RegistryObjectNotFound,
    RegistrySettingsConflict,
    RegistryVersionConflict,
    StoreKeyFormatError,
)
from tests.support import Places, watched

pytestmark = pytest.mark.asyncio


# --- numbering


async def test_the_first_version_is_1_0_0(places: Places) -> None:
    assert await places.registry().save("x", 1) == "1.0.0"


async def test_the_last_number_counts_up(places: Places) -> None:
    registry = places.registry()
    assert [await registry.save("x", at) for at in range(12)][-2:] == ["1.0.10", "1.0.11"]


async def test_the_next_version_follows_the_highest(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1, version="2.5.9")
    await registry.save("x", 1, version="1.9.9")
    assert await registry.save("x", 2) == "2.5.10"


async def test_the_next_version_follows_what_others_saved_meanwhile(places: Places) -> None:
    """What this registry saw last is no reason not to look: L2."""
    mine, other = places.registry(), places.registry()
    assert await mine.save("x", 1) == "1.0.0"
    assert await other.save("x", 2) == "1.0.1"
    assert await mine.save("x", 3) == "1.0.2"
    await other.save("x", 4, version="2.0.0")
    assert await mine.save("x", 5) == "2.0.1"
    await other.delete("x")
    assert await mine.save("x", 6) == "2.0.2"
    assert [await mine.load("x"), await other.list_versions("x")] == [6, ["2.0.2"]]


@pytest.mark.parametrize(
    ("digits", "first", "second"),
    [(1, "1", "2"), (2, "1.0", "1.1"), (3, "1.0.0", "1.0.1"), (5, "1.0.0.0.0", "1.0.0.0.1")],
)
async def test_versions_have_as_many_numbers_as_the_registry_says(
    places: Places, digits: int, first: str, second: str
) -> None:
    registry = places.registry(version_digits=digits)
    assert [await registry.save("x", 1), await registry.save("x", 2)] == [first, second]


@pytest.mark.parametrize(
    ("text", "version"),
    [("1", "1.0.0"), ("v2", "2.0.0"), ("2.3", "2.3.0"), ("v0.0.7", "0.0.7"), ("01.2.3", "1.2.3")],
)
async def test_a_version_is_padded_and_may_begin_with_v(
    places: Places, text: str, version: str
) -> None:
    registry = places.registry()
    assert await registry.save("x", text, version=text) == version
    assert await registry.load("x", text) == await registry.load("x", version) == text


@pytest.mark.parametrize(
    "text", ["", "1.", "a", "1.0.0-rc1", "-1", "1..2", "newest", " 1", "1.0.0.0"]
)
async def test_what_is_no_version_is_refused(places: Places, text: str) -> None:
    registry = places.registry()
    with pytest.raises(StoreKeyFormatError):
        await registry.save("x", 1, version=text)
    assert await places.keys() == set()


async def test_a_version_that_the_digits_cannot_express_is_not_found(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    assert await registry.has_object("x", "1.0.0.1") is False
    with pytest.raises(RegistryObjectNotFound):
        await registry.load("x", "1.0.0.1")


async def test_numbers_are_ordered_as_numbers(places: Places) -> None:
    registry = places.registry()
    for version in ["9.0.0", "10.0.0", "1.0.0", "1.0.10", "1.0.9", "100.0.0"]:
        await registry.save("x", version, version=version)
    assert await registry.list_versions("x") == [
        "1.0.0", "1.0.9", "1.0.10", "9.0.0", "10.0.0", "100.0.0",
    ]  # fmt: skip
    assert await registry.load("x") == "100.0.0"


# --- versions in keys


async def test_a_version_may_stand_in_the_key(places: Places) -> None:
    registry = places.registry()
    assert await registry.save("x@3.1", "pinned") == "3.1.0"
    assert await registry.load("x@v3.1.0") == "pinned"
    assert await registry.has_object("x@3.1")
    await registry.delete("x@3.1")
    assert await registry.has_object("x") is False


async def test_key_and_argument_may_say_the_same_version(places: Places) -> None:
    registry = places.registry()
    await registry.save("x@1", "same", version="1.0.0")
    assert await registry.load("x@1.0", version="v1") == "same"


async def test_two_different_versions_are_refused(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    with pytest.raises(StoreKeyFormatError, match=r"1\.0\.0.*2\.0\.0"):
        await registry.load("x@1.0.0", version="2.0.0")
    with pytest.raises(StoreKeyFormatError):
        await registry.save("x@latest", 1, version="1.0.0")


async def test_none_and_latest_mean_the_newest(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "old")
    await registry.save("x", "new")
    assert await registry.load("x") == "new"
    assert await registry.load("x", "latest") == await registry.load("x@latest") == "new"


# --- one version


async def test_an_unversioned_registry_keeps_1_0_0(places: Places) -> None:
    registry = places.registry(version_objects=False, mutable=True)
    assert [await registry.save("x", 1), await registry.save("x", 2)] == ["1.0.0", "1.0.0"]
    assert await registry.load("x") == 2
    assert await registry.list_versions("x") == ["1.0.0"]


async def test_an_unversioned_registry_refuses_other_versions(places: Places) -> None:
    registry = places.registry(version_objects=False)
    with pytest.raises(StoreKeyFormatError, match=r"1\.0\.0"):
        await registry.save("x", 1, version="2.0.0")
    assert await registry.has_object("x", "2.0.0") is False


async def test_an_unversioned_immutable_registry_refuses_to_overwrite(places: Places) -> None:
    registry = places.registry(version_objects=False)
    await registry.save("x", "first")
    with pytest.raises(RegistryVersionConflict):
        await registry.save("x", "second")
    assert await registry.load("x") == "first"


async def test_an_unversioned_registry_writes_a_deleted_object_anew(places: Places) -> None:
    registry = places.registry(version_objects=False)
    await registry.save("x", "first")
    await registry.delete("x")
    assert await registry.save("x", "second") == "1.0.0"
    assert await registry.load("x") == "second"


# --- conflicts


async def test_an_immutable_version_cannot_be_saved_twice(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "first", version="1.0.0")
    with pytest.raises(RegistryVersionConflict) as caught:
        await registry.save("x", "second", version="1.0.0")
    assert (caught.value.name, caught.value.version) == ("x", "1.0.0")
    assert await registry.load("x") == "first"


async def test_skip_answers_the_version_that_is_there_untouched(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "first", version="1.0.0", metadata={"by": "first"})
    assert await registry.save("x", "second", version="1", on_conflict="skip") == "1.0.0"
    record = await registry.load_record("x")
    assert (record.value, dict(record.metadata)) == ("first", {"by": "first"})


async def test_skip_saves_what_is_not_there(places: Places) -> None:
    registry = places.registry()
    assert await registry.save("x", 1, version="1.0.0", on_conflict="skip") == "1.0.0"
    assert await registry.load("x") == 1


async def test_a_mutable_registry_overwrites_by_default(places: Places) -> None:
    registry = places.registry(mutable=True)
    await registry.save("x", "first", version="1.0.0")
    await registry.save("x", "second", version="1.0.0")
    assert await registry.load("x", "1.0.0") == "second"


async def test_a_mutable_registry_keeps_what_is_there_on_error(places: Places) -> None:
    registry = places.registry(mutable=True)
    await registry.save("x", "first", version="1.0.0")
    with pytest.raises(RegistryVersionConflict):
        await registry.save("x", "second", version="1.0.0", on_conflict="error")
    assert await registry.load("x") == "first"


async def test_overwriting_needs_a_mutable_registry(places: Places) -> None:
    registry = places.registry()
    with pytest.raises(RegistrySettingsConflict, match="mutable"):
        await registry.save("x", 1, on_conflict="overwrite")
    assert await registry.has_object("x") is False


async def test_an_unknown_policy_is_refused(places: Places) -> None:
    with pytest.raises(RegistrySettingsConflict, match="'skip'"):
        await places.registry().save("x", 1, on_conflict="ignore")  # type: ignore[arg-type]
    assert await places.keys() == set()


async def test_an_overwrite_takes_nothing_else_with_it(places: Places) -> None:
    registry = places.registry(mutable=True)
    await registry.save("x", "old", version="1.0.0")
    await registry.save("x", b"large" * 50_000, version="2.0.0")
    await registry.save("x", b"other" * 50_000, version="1.0.0")
    assert await registry.load("x", "2.0.0") == b"large" * 50_000
    assert await registry.load("x", "1.0.0") == b"other" * 50_000


# --- deletion


async def test_a_deleted_number_is_not_used_again(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    await registry.save("x", 2)
    await registry.delete("x", "1.0.1")
    assert await registry.save("x", 3) == "1.0.2"


@pytest.mark.parametrize("policy", ["error", "skip", None])
async def test_a_deleted_version_cannot_be_saved_again(places: Places, policy: str | None) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    await registry.delete("x", "1.0.0")
    with pytest.raises(RegistryVersionConflict, match="deleted"):
        await registry.save("x", 1, version="1.0.0", on_conflict=policy)  # type: ignore[arg-type]
    assert await registry.has_object("x") is False


async def test_a_mutable_registry_may_write_a_deleted_version_anew(places: Places) -> None:
    registry = places.registry(mutable=True)
    await registry.save("x", 1)
    await registry.delete("x", "1.0.0")
    assert await registry.save("x", 2, version="1.0.0") == "1.0.0"
    assert await registry.load("x") == 2


async def test_deleting_one_version_leaves_the_others(places: Places) -> None:
    registry = places.registry()
    for value in "abc":
        await registry.save("x", value)
    await registry.delete("x", "1.0.1")
    assert await registry.list_versions("x") == ["1.0.0", "1.0.2"]
    assert await registry.load("x") == "c"
    with pytest.raises(RegistryObjectNotFound):
        await registry.load("x", "1.0.1")


async def test_deleting_the_newest_makes_the_one_before_the_latest(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", "old")
    await registry.save("x", "new")
    await registry.delete("x", "latest")
    assert await registry.load("x") == "old"


async def test_deleting_without_a_version_deletes_all(places: Places) -> None:
    registry = places.registry()
    for value in range(5):
        await registry.save("x", value)
    await registry.delete("x")
    assert await registry.list_versions("x") == []
    assert await registry.list_objects() == []
    assert await registry.save("x", "next") == "1.0.5"


async def test_while_all_are_deleted_latest_never_goes_back(places: Places) -> None:
    registry = places.registry()
    for value in range(6):
        await registry.save("x", value)
    seen = []
    deleting = asyncio.create_task(registry.delete("x"))
    while not deleting.done():
        seen.append(await registry.get("x", "gone"))
    await deleting
    assert set(seen) <= {5, "gone"}
    assert seen[0] == 5


@pytest.mark.parametrize("version", [None, "1.0.0", "latest"])
async def test_deleting_what_is_not_there_is_not_found(places: Places, version: str | None) -> None:
    registry = places.registry()
    with pytest.raises(RegistryObjectNotFound) as caught:
        await registry.delete("x", version)
    assert caught.value.name == "x"
    await registry.save("y", 1)
    with pytest.raises(RegistryObjectNotFound):
        await registry.delete("x", version)


async def test_deleting_twice_is_not_found(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", 1)
    await registry.delete("x")
    with pytest.raises(RegistryObjectNotFound):
        await registry.delete("x")


async def test_of_two_deletes_that_saw_it_live_both_succeed() -> None:
    there = watched(0.01)
    await there.registry.save("x", 1)
    await asyncio.gather(*(there.registry.delete("x", "1.0.0") for _ in range(2)))
    assert await there.registry.has_object("x") is False


async def test_purge_frees_the_payload_at_once(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", b"1" * 200_000)
    assert len(await places.payloads()) == 1
    await registry.delete("x", purge=True)
    assert await places.payloads() == set()


async def test_without_purge_the_payload_stays_for_readers(places: Places) -> None:
    registry = places.registry()
    await registry.save("x", b"1" * 200_000)
    async with registry.open_reader("x") as reader:
        await registry.delete("x")
        assert await reader.read() == b"1" * 200_000


# --- many writers


async def test_concurrent_saves_get_consecutive_versions(places: Places) -> None:
    registry = places.registry()
    versions = await asyncio.gather(*(registry.save("x", at) for at in range(64)))
    assert sorted(versions, key=lambda text: int(text.split(".")[2])) == [
        f"1.0.{at}" for at in range(64)
    ]
    for at, version in enumerate(versions):
        assert await registry.load("x", version) == at


async def test_concurrent_saves_of_several_openers_get_consecutive_versions(places: Places) -> None:
    openers = [places.registry() for _ in range(8)]
    saves = (opener.save("x", at) for opener in openers for at in range(4))
    versions = await asyncio.gather(*saves)
    assert sorted(int(text.split(".")[2]) for text in versions) == list(range(32))


async def test_of_concurrent_saves_of_one_version_one_wins(places: Places) -> None:
    openers = [places.registry() for _ in range(8)]
    outcomes = await asyncio.gather(
        *(opener.save("x", at, version="1.0.0") for at, opener in enumerate(openers)),
        return_exceptions=True,
    )
    won = [at for at, outcome in enumerate(outcomes) if outcome == "1.0.0"]
    assert len(won) == 1
    assert sum(isinstance(outcome, RegistryVersionConflict) for outcome in outcomes) == 7
    assert await openers[0].load("x") == won[0]
