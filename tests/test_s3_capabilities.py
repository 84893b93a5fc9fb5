"""What is done about an S3 that is not quite one: found out, refused, worked around, or said."""

from __future__ import annotations

import asyncio
import itertools
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from asyncstore import (
    AsyncRegistry,
    BackendCapabilityError,
    BackendError,
    BackendReport,
    RegistryObjectNotFound,
    RegistryVersionConflict,
    UnsafeSingleWriterWarning,
    check_backend,
)
from tests.servers.client import s3_client
from tests.servers.control import Control
from tests.servers.objects import Quirk
from tests.servers.process import Server
from tests.support import make_bucket, s3_uri

pytestmark = pytest.mark.asyncio

KEYS = {"access_key_id": "test", "secret_access_key": "test"}
_NUMBERS = itertools.count(1)

Open = Callable[..., Awaitable[AsyncRegistry]]


class Place:
    """A bucket of the test's own, on the S3 that counts; its name may give it quirks."""

    def __init__(self, control: Control, beginning: str) -> None:
        self.control = control
        self.bucket = f"{beginning}-capabilities-{next(_NUMBERS)}"
        self.uri = f"s3://{self.bucket}/place?endpoint_url={control.url}&region=us-east-1"
        self.ends = AsyncExitStack()

    async def registry(self, **settings: Any) -> AsyncRegistry:
        """The registry, as another process would open it."""
        return await self.ends.enter_async_context(AsyncRegistry(self.uri, **KEYS, **settings))

    async def check(self) -> BackendReport:
        return await check_backend(self.uri, **KEYS)

    async def keys(self) -> list[str]:
        """All that is in the bucket."""
        async with s3_client(self.control.url) as client:
            page = await client.list_objects_v2(Bucket=self.bucket)
            return [found["Key"] for found in page.get("Contents", ())]


Make = Callable[[str], Place]


@pytest_asyncio.fixture
async def make(counting: Control) -> AsyncIterator[Make]:
    """Makes places by the beginning of their bucket's name."""
    made: list[Place] = []

    def new(beginning: str = "good") -> Place:
        made.append(Place(counting, beginning))
        return made[-1]

    yield new
    for place in made:
        await place.ends.aclose()


FINE = {"create": True, "replace": True, "ordered": True, "exact": True}

REFUSED = {
    Quirk.IGNORES_IF_NONE_MATCH: ({"create": False}, r"of 16 to create .*\(If-None-Match\).* 16 "),
    Quirk.IGNORES_IF_MATCH: ({"replace": False}, r"of 16 to replace .*\(If-Match\).* 16 "),
    Quirk.NO_CONDITIONS: (
        {"create": False, "replace": False},
        r"of 16 to create .* 0 .*does not implement it.*of 1 to replace .* 0 ",
    ),
    Quirk.UNORDERED: ({"ordered": False}, r"come in no order"),
    Quirk.ENCRYPTING: ({"exact": False}, r"180 bytes were stored and came back as \[180, 196\]"),
}
HANDLED = ["good", Quirk.UNQUOTED.value, Quirk.RACE_500.value]
RACES = [*((beginning, 0) for beginning in HANDLED), ("good", 12)]
"""Services on which writers race, and how many conditional writes are answered with 409."""

WITHOUT_CONDITIONS = [Quirk.IGNORES_IF_NONE_MATCH, Quirk.IGNORES_IF_MATCH, Quirk.NO_CONDITIONS]
WITHOUT_TRUE_LISTINGS = [Quirk.UNORDERED, Quirk.ENCRYPTING]

# -- the check itself


@pytest.mark.parametrize(
    "quirk",
    REFUSED,
)
async def test_the_check_reports_what_is_wrong(make: Make, quirk: Quirk) -> None:
    place = make(quirk.value)
    report = await place.check()
    differences, message = REFUSED[quirk]
    found = {name: getattr(report, name) for name in FINE}
    assert found == {**FINE, **differences}
    assert report.uri == place.uri
    with pytest.raises(BackendCapabilityError, match=message) as caught:
        report.raise_for_faults()
    assert place.uri in str(caught.value)
    assert len(report.faults) == len(differences)


@pytest.mark.parametrize("beginning", HANDLED)
async def test_the_check_finds_nothing_where_all_can_be_handled(make: Make, beginning: str) -> None:
    report = await make(beginning).check()
    assert report.faults == ()
    assert {name: getattr(report, name) for name in FINE} == FINE
    report.raise_for_faults()


@pytest.mark.parametrize("beginning", [*HANDLED, *(quirk.value for quirk in REFUSED)])
async def test_the_check_makes_few_requests_and_leaves_nothing_but_the_probe(
    make: Make, counting: Control, beginning: str
) -> None:
    place = make(beginning)
    with suppress(BackendCapabilityError):
        await place.check()
    assert 1 <= len(counting.log()) <= 50
    assert await place.keys() in ([], ["place/asv.probe"])


async def test_the_check_of_a_bucket_that_is_not_there(make: Make) -> None:
    with pytest.raises(BackendError, match="no such bucket") as caught:
        await make(Quirk.MISSING.value).check()
    assert not isinstance(caught.value, BackendCapabilityError)


async def test_the_check_of_a_service_that_answers_nothing_good(
    make: Make, counting: Control
) -> None:
    counting.fail(n=1000, status=403)
    with pytest.raises(BackendError, match="denied"):
        await make("good").check()


async def test_a_few_conflicts_are_no_fault(make: Make, counting: Control) -> None:
    counting.conflict(n=5)
    assert (await make("good").check()).faults == ()


async def test_the_check_of_moto(moto_server: Server) -> None:
    make_bucket(moto_server.url)
    uri = s3_uri(moto_server.url, f"check-{next(_NUMBERS)}")
    assert (await check_backend(uri, **KEYS)).faults == ()


async def test_the_check_of_memory_and_of_a_directory(tmp_path: Path) -> None:
    for target in ("memory://", tmp_path / "place"):
        assert (await check_backend(target)).faults == ()


# -- creating a registry


@pytest.mark.parametrize("quirk", REFUSED)
async def test_no_registry_is_created_where_it_would_not_be_safe(make: Make, quirk: Quirk) -> None:
    place = make(quirk.value)
    registry = await place.registry()
    assert not await registry.has_object("x")
    # What ignores If-None-Match is caught by a single request before anything else.
    shorter = quirk is Quirk.IGNORES_IF_NONE_MATCH
    message = "ignores If-None-Match" if shorter else REFUSED[quirk][1]
    for _ in range(2):
        with pytest.raises(BackendCapabilityError, match=message):
            await registry.save("x", 1)
        assert await place.keys() in ([], ["place/asv.probe"])
    assert not await registry.has_object("x")


@pytest.mark.parametrize("quirk", WITHOUT_CONDITIONS)
async def test_a_refusal_says_what_else_can_be_done(make: Make, quirk: Quirk) -> None:
    with pytest.raises(BackendCapabilityError, match="unsafe_single_writer=True"):
        await (await make(quirk.value).registry()).save("x", 1)


async def test_a_refusal_names_no_way_out_that_is_none(make: Make) -> None:
    with pytest.raises(BackendCapabilityError) as caught:
        await (await make(Quirk.ENCRYPTING.value).registry()).save("x", 1)
    assert "unsafe_single_writer" not in str(caught.value)


async def test_what_cannot_be_told_apart_is_refused(make: Make) -> None:
    # Where a tag in quotes is answered with 500, it is never seen that it was the quotes.
    place = make(f"{Quirk.UNQUOTED.value}-{Quirk.RACE_500.value}")
    with pytest.raises(BackendCapabilityError, match=r"\(If-Match\).* 0 .* 500"):
        await (await place.registry()).save("x", 1)
    assert await place.keys() == ["place/asv.probe"]


async def test_no_registry_is_created_in_a_bucket_that_is_not_there(make: Make) -> None:
    registry = await make(Quirk.MISSING.value).registry()
    for operation in (
        lambda: registry.save("x", 1),
        lambda: registry.has_object("x"),
        lambda: registry.load("x"),
        lambda: registry.list_objects(),
    ):
        with pytest.raises(BackendError, match="there is no such bucket; create it first"):
            await operation()


async def test_creating_takes_few_requests(make: Make, counting: Control) -> None:
    await (await make("good").registry()).save("x", 1)
    assert len(counting.log()) <= 60


# -- what is worked around


@pytest.mark.parametrize(("beginning", "conflicts"), RACES)
async def test_racing_saves_are_all_done_and_counted(
    make: Make, counting: Control, beginning: str, conflicts: int
) -> None:
    place = make(beginning)
    racers = [await place.registry() for _ in range(6)]
    await racers[0].save("other", 1)
    counting.conflict(n=conflicts, match="PUT place/m/")
    saved = await asyncio.gather(*(racer.save("x", at) for at, racer in enumerate(racers)))
    assert sorted(saved) == [f"1.0.{at}" for at in range(6)]
    values = [await racers[0].load("x", version) for version in saved]
    assert values == list(range(6))


@pytest.mark.parametrize(("beginning", "conflicts"), RACES)
async def test_of_racing_saves_of_one_version_one_is_done(
    make: Make, counting: Control, beginning: str, conflicts: int
) -> None:
    place = make(beginning)
    racers = [await place.registry() for _ in range(6)]
    await racers[0].save("other", 1)
    counting.conflict(n=conflicts, match="PUT place/m/")
    done = await asyncio.gather(
        *(racer.save("x", at, version="1.0.0") for at, racer in enumerate(racers)),
        return_exceptions=True,
    )
    winners = [at for at, result in enumerate(done) if result == "1.0.0"]
    lost = [result for result in done if isinstance(result, RegistryVersionConflict)]
    assert (len(winners), len(lost)) == (1, 5)
    assert await racers[0].load("x") == winners[0]


@pytest.mark.parametrize(("beginning", "conflicts"), RACES)
async def test_racing_overwrites_all_succeed_and_one_of_them_stays(
    make: Make, counting: Control, beginning: str, conflicts: int
) -> None:
    place = make(beginning)
    racers = [await place.registry(mutable=True) for _ in range(4)]
    await racers[0].save("x", "before", version="1.0.0")
    counting.conflict(n=conflicts, match="PUT place/m/")
    for turn in range(3):
        saved = await asyncio.gather(
            *(racer.save("x", [turn, at], version="1.0.0") for at, racer in enumerate(racers))
        )
        assert saved == ["1.0.0"] * len(racers)
        found = await (await place.registry()).load("x")
        assert found in [[turn, at] for at in range(len(racers))]
        assert [await racer.load("x") for racer in racers] == [found] * len(racers)
    assert await racers[0].list_versions("x") == ["1.0.0"]


@pytest.mark.parametrize(("beginning", "conflicts"), RACES)
async def test_of_racing_pops_one_gets_the_object(
    make: Make, counting: Control, beginning: str, conflicts: int
) -> None:
    place = make(beginning)
    racers = [await place.registry() for _ in range(5)]
    await racers[0].save("x", "value")
    counting.conflict(n=conflicts, match="PUT place/m/")
    popped = await asyncio.gather(*(racer.pop("x", None) for racer in racers))
    assert sorted(popped, key=str) == [None] * 4 + ["value"]
    assert not await (await place.registry()).has_object("x")


@pytest.mark.parametrize(("beginning", "conflicts"), RACES)
async def test_racing_deletes_that_all_saw_the_object_all_succeed(
    make: Make, counting: Control, beginning: str, conflicts: int
) -> None:
    place = make(beginning)
    racers = [await place.registry() for _ in range(5)]
    await racers[0].save("x", "value")
    for racer in racers:
        await racer.save("other", 1)  # the first write of each takes a request more
    counting.delay(20)  # so that each reads before any writes
    counting.conflict(n=conflicts, match="PUT place/m/")
    done = await asyncio.gather(
        *(racer.delete("x", "1.0.0") for racer in racers), return_exceptions=True
    )
    assert done == [None] * len(racers)
    counting.delay(0)
    with pytest.raises(RegistryObjectNotFound):
        await racers[0].load("x")
    assert await racers[0].save("x", "again") == "1.0.1"


# -- the check of every process


async def test_a_service_that_was_exchanged_is_written_by_no_new_process(
    make: Make, counting: Control
) -> None:
    place = make("good")
    await (await place.registry()).save("x", 1)
    counting.be(Quirk.IGNORES_IF_NONE_MATCH)
    before = await place.keys()
    registry = await place.registry()
    assert await registry.load("x") == 1
    for _ in range(2):
        with pytest.raises(BackendCapabilityError, match="ignores If-None-Match"):
            await registry.save("x", 2)
    for write in (
        lambda: registry.setdefault("y", 2),
        lambda: registry.copy("x", target="y"),
        lambda: registry.move("x", target="y"),
    ):
        with pytest.raises(BackendCapabilityError, match="ignores If-None-Match"):
            await write()
    assert await place.keys() == before
    assert await registry.load("x") == 1
    assert await registry.list_versions("x") == ["1.0.0"]


# -- a single writer


async def test_a_single_writer_is_warned(make: Make) -> None:
    place = make("good")
    with pytest.warns(UnsafeSingleWriterWarning, match="overwrites objects without a word") as seen:
        await place.registry(unsafe_single_writer=True)
    assert place.uri in str(seen[0].message)


async def test_nobody_else_is_warned(make: Make) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await (await make("good").registry()).save("x", 1)


async def test_a_warning_points_at_whoever_opened_the_registry(make: Make) -> None:
    with pytest.warns(UnsafeSingleWriterWarning) as seen:
        AsyncRegistry(make("good").uri, unsafe_single_writer=True, **KEYS)
    assert seen[0].filename == __file__


@pytest.mark.filterwarnings("ignore::asyncstore.UnsafeSingleWriterWarning")
@pytest.mark.parametrize("quirk", WITHOUT_CONDITIONS)
async def test_a_single_writer_does_all_there_is_to_do(make: Make, quirk: Quirk) -> None:
    place = make(quirk.value)
    registry = await place.registry(unsafe_single_writer=True, mutable=True)
    saved = await asyncio.gather(*(registry.save("x", at) for at in range(5)))
    assert sorted(saved) == [f"1.0.{at}" for at in range(5)]
    assert await registry.load("x", saved[3]) == 3
    await registry.save("x", "other", version="1.0.3")
    assert await registry.load("x", "1.0.3") == "other"
    with pytest.raises(RegistryVersionConflict):
        await registry.save("x", "late", version="1.0.3", on_conflict="error")
    large = bytes(300_000)
    await registry.save("large", large)
    assert await registry.load("large") == large
    await registry.delete("x", "1.0.4")
    assert await registry.list_versions("x") == ["1.0.0", "1.0.1", "1.0.2", "1.0.3"]
    assert await registry.load("x") == "other"
    assert await registry.pop("x", "1.0.0") is not None
    await registry.delete("x")
    assert await registry.list_objects() == ["large"]
    again = await place.registry(unsafe_single_writer=True)
    assert await again.load("large") == large
    assert await again.save("x", 1) == "1.0.5"


@pytest.mark.filterwarnings("ignore::asyncstore.UnsafeSingleWriterWarning")
@pytest.mark.parametrize("quirk", WITHOUT_TRUE_LISTINGS)
async def test_even_a_single_writer_needs_listings_that_are_right(make: Make, quirk: Quirk) -> None:
    place = make(quirk.value)
    registry = await place.registry(unsafe_single_writer=True)
    with pytest.raises(BackendCapabilityError, match=REFUSED[quirk][1]):
        await registry.save("x", 1)
