"""The part of the conformance suite about writing, conditions and cancellation."""

from __future__ import annotations

import asyncio
import random

from asyncstore.backends.base import Backend, CreatesNext, PutStatus
from asyncstore.testing._harness import (
    Harness,
    cancelled,
    check_one_winner,
    content,
    found,
    scenario,
    shown,
    stream,
)


class _Broken(Exception):
    """What a stream in these tests fails with."""


class Writing(Harness):
    """``put`` and ``delete``."""

    @scenario
    async def test_put_overwrites(self, backend: Backend) -> None:
        for data in (b"one", b"", b"three" * 1000, b"4"):
            await backend.put("c/a", data)
            assert await content(backend, "c/a") == data

    @scenario
    async def test_put_takes_every_buffer(self, backend: Backend) -> None:
        part = memoryview(b"0123456789")[2:5]
        for data in (b"bytes", bytearray(b"bytearray"), memoryview(b"view"), part):
            await backend.put("c/a", data)
            assert await content(backend, "c/a") == bytes(data)

    @scenario
    async def test_put_takes_a_stream(self, backend: Backend) -> None:
        await backend.put("c/a", stream(b"one", bytearray(b"two"), memoryview(b"three"), b"", b"4"))
        assert await content(backend, "c/a") == b"onetwothree4"
        await backend.put("c/a", stream())
        assert await content(backend, "c/a") == b""
        await backend.put("c/a", stream(b"shorter"))
        assert await content(backend, "c/a") == b"shorter"

    @scenario
    async def test_a_broken_stream_changes_nothing(self, backend: Backend) -> None:
        await backend.put("c/old", b"old")
        for pieces in ((), (b"new",), (b"n" * 100_000, b"ew")):
            for key in ("c/old", "c/new"):
                try:
                    await backend.put(key, stream(*pieces, _Broken("half way")))
                except _Broken:
                    continue
                raise AssertionError("the error of the stream was lost")
        assert await content(backend, "c/old") == b"old"
        assert await backend.get("c/new") is None
        assert shown(await backend.list("c/")) == ["c/old"]

    @scenario
    async def test_a_large_object_round_trips(self, backend: Backend) -> None:
        data = random.Random(1).randbytes(self.large)
        step = self.large // 7 + 1
        pieces = [data[at : at + step] for at in range(0, len(data), step)]
        await backend.put("c/streamed", stream(*pieces))
        await backend.put("c/whole", data)
        for key in ("c/streamed", "c/whole"):
            assert await content(backend, key) == data
            for start, length in ((0, 1), (step - 1, 3), (len(data) - 5, 10), (1, len(data) // 2)):
                blob = await backend.get(key, start=start, length=length)
                assert blob is not None
                assert (blob.data, blob.size) == (data[start : start + length], len(data))

    @scenario
    async def test_many_writes_at_once(self, backend: Backend) -> None:
        keys = [f"c/{index % 5}/{index}" for index in range(60)]
        await asyncio.gather(*(backend.put(key, key.encode()) for key in keys))
        assert await asyncio.gather(*(content(backend, key) for key in keys)) == [
            key.encode() for key in keys
        ]

    @scenario
    async def test_delete_removes(self, backend: Backend) -> None:
        keys = [f"c/n/{index}" for index in range(5)]
        for key in [*keys, "c/stays"]:
            await backend.put(key, b"1")
        await backend.delete([*keys, "c/n/none", "c/other/none"])
        await backend.delete(keys)
        await backend.delete([])
        assert [await backend.get(key) for key in keys] == [None] * 5
        assert shown(await backend.list("c/")) == ["c/stays"]
        await backend.put(keys[0], b"again")
        assert await content(backend, keys[0]) == b"again"

    @scenario
    async def test_deleting_in_an_empty_place_leaves_it_usable(self, backend: Backend) -> None:
        await backend.delete(["c", "c/a/b"])
        await backend.put("c", b"1")
        assert await content(backend, "c") == b"1"

    @scenario
    async def test_writes_and_deletions_side_by_side(self, backend: Backend) -> None:
        async def churn(key: str) -> None:
            for n in range(self.rounds):
                await backend.put(key, b"%d" % n)
                assert await content(backend, key) == b"%d" % n
                await backend.delete([key])

        await asyncio.gather(*(churn(f"c/n/{index}") for index in range(4)))

    @scenario
    async def test_a_cancelled_put_is_all_or_nothing(self, backend: Backend) -> None:
        dice = random.Random(2)
        known: set[bytes | None] = {None}
        for n in range(self.cancellations):
            data = bytes([n]) * (200_000 + n)
            known.add(data)
            source = stream(data[:70_000], data[70_000:]) if n % 2 else data
            await cancelled(backend.put("c/a", source), dice)
            assert await content(backend, "c/a") in known
        assert set(shown(await backend.list("c/"))) <= {"c/a"}
        await backend.put("c/a", b"last")
        assert await content(backend, "c/a") == b"last"


class Conditions(Harness):
    """``put_if``."""

    @scenario
    async def test_create_is_done_once(self, backend: Backend) -> None:
        self.need(backend.capabilities.create, "it states that it cannot create conditionally")
        reply = await backend.put_if("c/n/a", b"first", tag=None)
        assert reply.status is PutStatus.DONE
        assert reply.tag in ("", (await found(backend, "c/n/a")).tag)
        for data in (b"second", b"first"):
            reply = await backend.put_if("c/n/a", data, tag=None)
            assert reply.status is PutStatus.REFUSED
        assert await content(backend, "c/n/a") == b"first"
        for view in (bytearray(b"array"), memoryview(b"view"), b""):
            key = f"c/n/{len(view)}"
            assert (await backend.put_if(key, view, tag=None)).status is PutStatus.DONE
            assert await content(backend, key) == bytes(view)

    @scenario
    async def test_one_of_many_creates_is_done(self, backend: Backend) -> None:
        self.need(backend.capabilities.create, "it states that it cannot create conditionally")
        for number in range(self.rounds):
            key = f"c/{number % 3}/{number}"
            replies = await asyncio.gather(
                *(backend.put_if(key, b"%d" % n, tag=None) for n in range(self.writers))
            )
            check_one_winner(replies, int((await found(backend, key)).data))

    @scenario
    async def test_put_next_creates_only_behind_the_newest(self, backend: Backend) -> None:
        if not isinstance(backend, CreatesNext) or not getattr(backend, "creates_next", True):
            self.need(False, "listing and creating are two requests here")
            return
        assert (await backend.put_if("c/n/5", b"5", tag=None)).status is PutStatus.DONE
        assert (await backend.put_next("c/n/4", b"4", newest="c/n/5")).status is PutStatus.DONE
        for stale in ("c/n/5", "c/n/3", "c/n/40"):
            reply = await backend.put_next("c/n/3", b"3", newest=stale)
            assert reply.status is PutStatus.OVERTAKEN, f"{stale} is not the first"
            assert await backend.get("c/n/3") is None
        reply = await backend.put_next("c/n/4", b"again", newest="c/n/4")
        assert reply.status is PutStatus.REFUSED
        assert await content(backend, "c/n/4") == b"4"
        replies = await asyncio.gather(
            *(backend.put_next("c/n/3", b"%d" % n, newest="c/n/4") for n in range(self.writers))
        )
        assert [reply.status for reply in replies].count(PutStatus.DONE) == 1
        assert {reply.status for reply in replies} <= {
            PutStatus.DONE, PutStatus.REFUSED, PutStatus.OVERTAKEN, PutStatus.UNKNOWN
        }  # fmt: skip

    @scenario
    async def test_replace_needs_the_tag_of_what_is_there(self, backend: Backend) -> None:
        self.need(backend.capabilities.replace, "it states that it cannot replace conditionally")
        for key in ("c/none", "c/n/none"):
            reply = await backend.put_if(key, b"new", tag="0" * 32)
            assert reply.status is PutStatus.REFUSED, "there is nothing to replace"
            assert await backend.get(key) is None
        await backend.put("c/a", b"one")
        first = (await found(backend, "c/a")).tag
        assert (await backend.put_if("c/a", b"two", tag=first)).status is PutStatus.DONE
        assert await content(backend, "c/a") == b"two"
        for data in (b"three", b"two"):
            assert (await backend.put_if("c/a", data, tag=first)).status is PutStatus.REFUSED
        assert await content(backend, "c/a") == b"two"
        await backend.delete(["c/a"])
        assert (await backend.put_if("c/a", b"four", tag=first)).status is PutStatus.REFUSED
        assert await backend.get("c/a") is None

    @scenario
    async def test_the_tag_changes_with_the_content(self, backend: Backend) -> None:
        tags: set[str] = set()
        for n in range(10):
            await backend.put("c/a", b"%d" % n)
            tags.add((await found(backend, "c/a")).tag)
        assert len(tags) == 10

    @scenario
    async def test_every_tag_that_is_given_fits(self, backend: Backend) -> None:
        self.need(backend.capabilities.replace, "it states that it cannot replace conditionally")
        await backend.put("c/a", b"start")
        tag = (await found(backend, "c/a")).tag
        for n in range(3):
            reply = await backend.put_if("c/a", b"reply %d" % n, tag=tag)
            assert reply.status is PutStatus.DONE
            tag = reply.tag or (await found(backend, "c/a")).tag
        for peek in (None, 1000):
            (entry,) = (await backend.list("c/", peek=peek)).entries
            if entry.tag is not None:
                reply = await backend.put_if(
                    "c/a", b"listed %s" % entry.tag.encode(), tag=entry.tag
                )
                assert reply.status is PutStatus.DONE, "the tag of a listing does not fit"
        head = await backend.head("c/a")
        if head is not None and head.tag is not None:
            reply = await backend.put_if("c/a", b"by head", tag=head.tag)
            assert reply.status is PutStatus.DONE, "the tag of head does not fit"

    @scenario
    async def test_one_of_many_replaces_is_done(self, backend: Backend) -> None:
        self.need(backend.capabilities.replace, "it states that it cannot replace conditionally")
        await backend.put("c/n/a", b"-1 start")
        for number in range(self.rounds):
            tag = (await found(backend, "c/n/a")).tag
            replies = await asyncio.gather(
                *(
                    backend.put_if("c/n/a", b"%d %d" % (n, number), tag=tag)
                    for n in range(self.writers // 2)
                )
            )
            writer, told = (await found(backend, "c/n/a")).data.split()
            assert int(told) == number, "nobody replaced it"
            check_one_winner(replies, int(writer))

    @scenario
    async def test_no_increment_is_lost(self, backend: Backend) -> None:
        self.need(backend.capabilities.replace, "it states that it cannot replace conditionally")
        await backend.put("c/n/a", b"start")

        async def add(name: bytes) -> None:
            # An answer that tells nothing is allowed, so whoever gets one has to look.
            while name not in (blob := await found(backend, "c/n/a")).data.split():
                reply = await backend.put_if("c/n/a", blob.data + b" " + name, tag=blob.tag)
                if reply.status is PutStatus.DONE:
                    return
                assert reply.status in (PutStatus.REFUSED, PutStatus.UNKNOWN)

        names = [b"%d" % name for name in range(8)]
        await asyncio.gather(*map(add, names))
        assert sorted((await found(backend, "c/n/a")).data.split()) == [*names, b"start"]

    @scenario
    async def test_a_cancelled_put_if_is_all_or_nothing(self, backend: Backend) -> None:
        self.need(backend.capabilities.create, "it states that it cannot create conditionally")
        dice = random.Random(3)
        known: dict[str, set[bytes | None]] = {}
        for n in range(self.cancellations):
            data, key = bytes([n]) * (100_000 + n), f"c/n/{n // 2}"
            # Whatever was cancelled may land later, as long as it is whole.
            known.setdefault(key, {None}).add(data)
            before = await backend.get(key) if backend.capabilities.replace else None
            await cancelled(backend.put_if(key, data, tag=before.tag if before else None), dice)
            assert await content(backend, key) in known[key]
        assert set(shown(await backend.list("c/n/"))) <= set(known)
