"""What every backend promises, as tests that anybody can run over a backend of their own.

::

    from asyncstore.testing import BackendConformance

    class TestMine(BackendConformance):
        async def open(self) -> Backend:
            return MyBackend(fresh_and_empty_place())

Collected by pytest, without any plugin; the methods can be called by hand as well. For messages
that show the values, put ``pytest.register_assert_rewrite("asyncstore.testing")`` in a
``conftest.py``.
"""

from __future__ import annotations

import asyncio
from urllib.parse import parse_qs, urlsplit

from asyncstore.backends.base import Backend, PutStatus
from asyncstore.testing._harness import check_one_winner, content, found, scenario, shown
from asyncstore.testing._reading import Keys, Listing, Reading
from asyncstore.testing._writing import Conditions, Writing

__all__ = ["BackendConformance"]


class BackendConformance(Reading, Keys, Listing, Writing, Conditions):
    """Every promise of :class:`asyncstore.backends.base.Backend`, one test method each.

    Override :meth:`open`; :meth:`reopen` too where a second backend, as in another process, can
    see the same objects. Every test gets an empty place, is bounded in time, closes the backend
    and fails if a task is left behind. What a backend states that it cannot do is skipped, with
    the reason. Keys that begin with ``l/`` and ``t/`` are left to the backend.
    """

    @scenario
    async def test_it_is_a_backend(self, backend: Backend) -> None:
        assert isinstance(backend, Backend)
        assert all(type(value) is bool for value in self._stated(backend))

    def _stated(self, backend: Backend) -> tuple[object, ...]:
        stated = backend.capabilities
        return stated.create, stated.replace, stated.ordered

    @scenario
    async def test_its_uri_holds_no_credentials(self, backend: Backend) -> None:
        uri: object = backend.uri
        assert isinstance(uri, str)
        assert uri
        parts = urlsplit(uri)
        assert parts.scheme
        assert parts.username is None
        assert parts.password is None
        for name in parse_qs(parts.query):
            for word in ("secret", "token", "password", "signature", "credential", "key"):
                assert word not in name.lower(), f"{name} in {uri}"

    @scenario
    async def test_it_can_be_closed_twice_and_used_again(self, backend: Backend) -> None:
        await backend.aclose()
        await backend.put("c/a", b"1")
        await backend.aclose()
        await backend.aclose()
        assert await content(backend, "c/a") == b"1"
        await backend.put("c/b", b"2")
        assert shown(await backend.list("c/")) == ["c/a", "c/b"]

    def test_two_event_loops_one_after_the_other(self) -> None:
        async def first() -> Backend:
            async with asyncio.timeout(self.seconds):
                backend = await self.open()
                await asyncio.gather(*(backend.put(f"c/{n}", b"1") for n in range(20)))
                await backend.aclose()
                return backend

        async def second(backend: Backend) -> None:
            async with asyncio.timeout(self.seconds):
                await asyncio.gather(*(backend.put(f"c/{n}", b"2") for n in range(10)))
                read = await asyncio.gather(*(content(backend, f"c/{n}") for n in range(20)))
                await backend.aclose()
                assert read == [b"2"] * 10 + [b"1"] * 10

        asyncio.run(second(asyncio.run(first())))

    @scenario
    async def test_another_backend_sees_the_same(self, backend: Backend) -> None:
        other = await self.second(backend)
        try:
            await backend.put("c/n/a", b"1")
            assert await content(other, "c/n/a") == b"1"
            await other.put("c/n/a", b"2")
            await other.put("c/n/b", b"3")
            assert await content(backend, "c/n/a") == b"2"
            assert shown(await backend.list("c/n/")) == ["c/n/a", "c/n/b"]
            await other.delete(["c/n/a", "c/n/b"])
            assert await backend.get("c/n/a") is None
            await backend.put("c/n/a", b"4")  # where the other one left an empty place
            assert await content(other, "c/n/a") == b"4"
        finally:
            await other.aclose()

    @scenario
    async def test_conditions_hold_between_backends(self, backend: Backend) -> None:
        self.need(backend.capabilities.create, "it states that it cannot create conditionally")
        self.need(backend.capabilities.replace, "it states that it cannot replace conditionally")
        other = await self.second(backend)
        both = (backend, other)
        try:
            for number in range(self.rounds):
                key = f"c/n/{number}"
                replies = await asyncio.gather(
                    *(both[n % 2].put_if(key, b"%d" % n, tag=None) for n in range(8))
                )
                blob = await found(backend, key)
                check_one_winner(replies, int(blob.data))
                replies = await asyncio.gather(
                    *(both[n % 2].put_if(key, b"%d again" % n, tag=blob.tag) for n in range(8))
                )
                check_one_winner(replies, int((await found(other, key)).data.split()[0]))
                stale = await backend.put_if(key, b"late", tag=blob.tag)
                assert stale.status is PutStatus.REFUSED
        finally:
            await other.aclose()
