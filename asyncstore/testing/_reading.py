"""The part of the conformance suite about reading, keys and listings."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from asyncstore.backends.base import Backend, PutStatus
from asyncstore.errors import BackendError
from asyncstore.testing._harness import Harness, content, found, paged, scenario, shown, stream

ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789_.,=!()-"
HOSTILE = ("../x", "/abs", "a//b", "", "a/./b", "a/../../x", "a/", "a\0b")


class Reading(Harness):
    """``get`` and ``head``."""

    @scenario
    async def test_reads_what_was_put(self, backend: Backend) -> None:
        await backend.put("c/a", b"hello")
        blob = await found(backend, "c/a")
        assert (blob.data, blob.size) == (b"hello", 5)
        assert type(blob.data) is bytes
        assert blob.tag, "a whole small object has a tag"

    @scenario
    async def test_absence_is_none_or_an_empty_page(self, backend: Backend) -> None:
        assert await backend.get("c/none") is None
        assert await backend.get("c/none", start=3, length=5) is None
        assert await backend.head("c/none") is None
        assert shown(await backend.list("c/")) == []
        await backend.put("c/deep/er/a", b"1")
        for key in ("c", "c/deep", "c/deep/er", "c/deep/er/a/below", "c/deep/er/aa"):
            assert await backend.get(key) is None, f"{key} is no object"
            assert await backend.head(key) is None, f"{key} is no object"
        assert shown(await backend.list("c/deep/er/a/")) == []

    @scenario
    async def test_reads_ranges(self, backend: Backend) -> None:
        data = bytes(range(200))
        await backend.put("c/a", data)
        ranges = [(0, None), (0, 0), (0, 1), (0, 200), (0, 500), (5, 10), (150, 100), (199, 1)]
        ranges += [(199, None), (200, 1), (200, None), (500, 7), (500, None), (7, 0)]
        for start, length in ranges:
            blob = await backend.get("c/a", start=start, length=length)
            assert blob is not None
            end = None if length is None else start + length
            assert blob.data == data[start:end], f"start={start}, length={length}"
            assert blob.size == len(data), f"start={start}, length={length}: the size of the whole"

    @scenario
    async def test_reads_an_empty_object(self, backend: Backend) -> None:
        await backend.put("c/a", b"")
        for start, length in ((0, None), (0, 0), (0, 10), (5, None), (5, 5)):
            blob = await backend.get("c/a", start=start, length=length)
            assert blob is not None
            assert (blob.data, blob.size) == (b"", 0)
        entry = await backend.head("c/a")
        assert entry is not None
        assert entry.size == 0

    @scenario
    async def test_head_tells_size_and_the_tag_of_get(self, backend: Backend) -> None:
        await backend.put("c/a", b"12345")
        entry = await backend.head("c/a")
        assert entry is not None
        assert (entry.key, entry.size, entry.data) == ("c/a", 5, None)
        assert entry.tag in (None, (await found(backend, "c/a")).tag)

    @scenario
    async def test_the_tag_of_a_range_is_that_of_the_whole(self, backend: Backend) -> None:
        await backend.put("c/a", b"12345")
        part = await backend.get("c/a", start=1, length=2)
        assert part is not None
        assert part.tag in ("", (await found(backend, "c/a")).tag)

    @scenario
    async def test_a_read_is_of_one_version(self, backend: Backend) -> None:
        versions = [bytes([65 + n]) * (40_000 + 9_000 * n) for n in range(8)]
        await backend.put("c/a", versions[0])

        async def rewrite() -> None:
            for n in range(self.rounds * 3):
                await backend.put("c/a", versions[n % len(versions)])

        async def reread(writing: asyncio.Task[None]) -> None:
            while not writing.done():
                assert await content(backend, "c/a") in versions, "a mix of two versions"
                part = await backend.get("c/a", start=30_000, length=1_000)
                assert part is not None
                assert part.data == part.data[:1] * 1_000, "a range that mixes two versions"

        async with asyncio.TaskGroup() as group:
            writing = group.create_task(rewrite())
            for _ in range(4):
                group.create_task(reread(writing))


class Keys(Harness):
    """Which keys there are, and which there are not."""

    @scenario
    async def test_keys_of_all_allowed_characters(self, backend: Backend) -> None:
        odd = ("a.b", "..a", "a..", "...", "-", "_", "=", ",", "!2e!2e", "(e6a8a1)", "a=b,c")
        for key in (f"c/{ALPHABET}", *(f"c/{name}/{name}" for name in odd)):
            await backend.put(key, key.encode())
            assert await content(backend, key) == key.encode()
            assert key in await paged(backend, key.rpartition("/")[0] + "/", limit=1000)

    @scenario
    async def test_keys_of_full_length(self, backend: Backend) -> None:
        key = "/".join(letter * 240 for letter in "xyz")
        await backend.put(f"c/{key}", b"put")
        assert await content(backend, f"c/{key}") == b"put"
        assert await paged(backend, "c/", limit=10, deep=True) == [f"c/{key}"]
        await backend.delete([f"c/{key}"])
        if backend.capabilities.create:
            reply = await backend.put_if(f"c/{key}", b"created", tag=None)
            assert reply.status is PutStatus.DONE
            assert await content(backend, f"c/{key}") == b"created"

    @scenario
    async def test_hostile_keys_are_errors_and_touch_nothing(self, backend: Backend) -> None:
        await backend.put("c/a", b"safe")
        for key in HOSTILE:
            for number, call in enumerate(_calls(backend, key)):
                try:
                    await call()
                except BackendError:
                    continue
                raise AssertionError(f"call {number} took {key!r} for a key")
            for tag in (None, "1"):
                reply = await backend.put_if(key, b"evil", tag=tag)
                assert reply.status is PutStatus.FAILED, f"put_if took {key!r} for a key"
        assert await content(backend, "c/a") == b"safe"
        assert await paged(backend, "c/", limit=10, deep=True) == ["c/a"]


def _calls(backend: Backend, key: str) -> list[Callable[[], Awaitable[object]]]:
    return [
        lambda: backend.get(key),
        lambda: backend.head(key),
        lambda: backend.put(key, b"evil"),
        lambda: backend.put(key, stream(b"evil")),
        lambda: backend.delete(["c/a", key]),
        lambda: backend.list(f"../{key}/"),
    ]


class Listing(Harness):
    """``list``."""

    names = ("a-b/x", "a.b/x", "a/x", "a/y", "a0/x", "b", "b-", "b.c", "b0", "c/d/e/f", "z")
    direct = ("a-b/", "a.b/", "a/", "a0/", "b", "b-", "b.c", "b0", "c/", "z")

    async def fill(self, backend: Backend) -> None:
        """Objects in an order that is not theirs."""
        for name in sorted(self.names, key=lambda name: name[::-1]):
            await backend.put(f"c/{name}", name.encode())
        await backend.put("c0/a", b"")
        await backend.put("b/z", b"")

    @scenario
    async def test_lists_direct_children(self, backend: Backend) -> None:
        await self.fill(backend)
        page = await backend.list("c/")
        assert shown(page) == [f"c/{name}" for name in sorted(self.direct)]
        assert not page.more
        assert all(prefix.endswith("/") for prefix in page.prefixes)
        assert all(not entry.key.endswith("/") for entry in page.entries)
        for entry in page.entries:
            assert entry.size == len(entry.key) - 2

    @scenario
    async def test_lists_in_byte_order(self, backend: Backend) -> None:
        self.need(backend.capabilities.ordered, "it states that its listings have no order")
        await self.fill(backend)
        for deep in (False, True):
            page = await backend.list("c/", deep=deep)
            keys = [entry.key for entry in page.entries]
            assert keys == sorted(keys)
            assert list(page.prefixes) == sorted(page.prefixes)

    @scenario
    async def test_lists_every_depth(self, backend: Backend) -> None:
        await self.fill(backend)
        page = await backend.list("c/", deep=True)
        assert page.prefixes == ()
        assert shown(page) == sorted(f"c/{name}" for name in self.names)
        for entry in page.entries:
            assert entry.size == len(entry.key) - 2

    @scenario
    async def test_pages_show_everything_once(self, backend: Backend) -> None:
        self.need(backend.capabilities.ordered, "it states that its listings have no order")
        await self.fill(backend)
        for limit in (1, 2, 3, len(self.direct), 100):
            names = await paged(backend, "c/", limit=limit)
            assert names == [f"c/{name}" for name in sorted(self.direct)], f"limit={limit}"
            names = await paged(backend, "c/", limit=limit, deep=True)
            assert names == sorted(f"c/{name}" for name in self.names), f"limit={limit}, deep"

    @scenario
    async def test_starts_after_a_key_or_a_prefix(self, backend: Backend) -> None:
        self.need(backend.capabilities.ordered, "it states that its listings have no order")
        await self.fill(backend)
        every = [f"c/{name}" for name in sorted(self.direct)]
        for after in [*every, "c/a-", "c/b,", "c/zz", "b/z", "d/"]:
            page = await backend.list("c/", start_after=after)
            assert shown(page) == [name for name in every if name > after], f"after {after}"
        page = await backend.list("c/", start_after="c/a/", deep=True)
        assert shown(page)[0] == "c/a0/x", "what is below a prefix does not come after it"
        page = await backend.list("c/", start_after="c/a/x", deep=True)
        assert shown(page)[0] == "c/a/y"

    @scenario
    async def test_prefixes_show_only_where_something_is(self, backend: Backend) -> None:
        await backend.put("c/a/b/d/x", b"1")
        await backend.put("c/a/b/e/x", b"1")
        await backend.put("c/z", b"1")
        await backend.delete(["c/a/b/d/x"])
        assert shown(await backend.list("c/a/b/")) == ["c/a/b/e/"]
        assert shown(await backend.list("c/")) == ["c/a/", "c/z"]
        await backend.delete(["c/a/b/e/x"])
        for prefix in ("c/a/b/", "c/a/"):
            assert shown(await backend.list(prefix)) == [], f"nothing is below {prefix}"
        assert await paged(backend, "c/", limit=1) == ["c/z"]
        assert await paged(backend, "c/", limit=1, deep=True) == ["c/z"]

    @scenario
    async def test_what_a_peek_attaches_is_what_get_reads(self, backend: Backend) -> None:
        sizes = (10, 0, 30, 100, 10, 200)
        for index, size in enumerate(sizes):
            await backend.put(f"c/{index}", bytes([index]) * size)
        page = await backend.list("c/", peek=50)
        shown_sizes = [entry.size for entry in sorted(page.entries, key=lambda e: e.key)]
        assert shown_sizes == list(sizes[: len(shown_sizes)])
        assert page.more or len(shown_sizes) == len(sizes)
        assert len(shown_sizes) >= 4, "the page may end with the first of 50 bytes, not before"
        for entry in page.entries:
            blob = await found(backend, entry.key)
            assert entry.data in (None, blob.data), f"{entry.key}: attached bytes are not its own"
            assert entry.tag in (None, blob.tag), f"{entry.key}: the tag of other bytes"
            if backend.capabilities.ordered and entry.key > "c/3":
                assert entry.data is None, f"{entry.key}: after the first of 50 bytes"
        page = await backend.list("c/")
        assert all(entry.data is None for entry in page.entries), "attached without a peek"

    @scenario
    async def test_a_listing_under_change_shows_what_stays(self, backend: Backend) -> None:
        keys = [f"c/n/{index:02}" for index in range(10)]
        for key in keys:
            await backend.put(key, b"0")

        async def churn() -> None:
            for n in range(self.rounds):
                await backend.put(keys[n % 10], b"%d" % n)
                await backend.put("c/n/x", b"passing")
                await backend.delete(["c/n/x"])

        writing = asyncio.ensure_future(churn())
        while not writing.done():
            assert set(keys) <= set(shown(await backend.list("c/n/")))
        await writing
