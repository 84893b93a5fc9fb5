"""The conformance suite fails for backends that break a promise, and skips what is not promised."""

from __future__ import annotations

import asyncio
import unittest
from collections.abc import AsyncIterable, Callable

import pytest

from asyncstore.backends.base import Backend, Buffer, Capabilities, PutReply, PutStatus
from asyncstore.backends.memory import MemoryBackend
from asyncstore.testing import BackendConformance, CheatingBackend, Fault, FaultyBackend
from asyncstore.testing._harness import check_one_winner


class Suite(BackendConformance):
    """The suite over any backend; not collected, its tests are run by hand."""

    def __init__(self, make: Callable[[], Backend]) -> None:
        self.make = make

    async def open(self) -> Backend:
        return self.make()


@pytest.mark.parametrize(
    ("cheat", "test"),
    [
        ({"ignores_create": True}, "test_create_is_done_once"),
        ({"ignores_create": True}, "test_one_of_many_creates_is_done"),
        ({"ignores_replace": True}, "test_replace_needs_the_tag_of_what_is_there"),
        ({"ignores_replace": True}, "test_one_of_many_replaces_is_done"),
        ({}, "test_one_of_many_creates_is_done"),
        ({}, "test_one_of_many_replaces_is_done"),
        ({}, "test_no_increment_is_lost"),
    ],
)
def test_the_suite_catches_a_cheat(cheat: dict[str, bool], test: str) -> None:
    suite = Suite(lambda: CheatingBackend(MemoryBackend(), **cheat))
    with pytest.raises(AssertionError):
        getattr(suite, test)()
    honest = Suite(lambda: CheatingBackend(MemoryBackend(), races=False))
    getattr(honest, test)()


def test_a_race_is_no_cheat_to_one_writer() -> None:
    suite = Suite(lambda: CheatingBackend(MemoryBackend()))
    suite.test_create_is_done_once()
    suite.test_replace_needs_the_tag_of_what_is_there()


def test_the_suite_catches_a_task_left_behind() -> None:
    class Littering(MemoryBackend):
        async def aclose(self) -> None:
            self.task = asyncio.ensure_future(asyncio.sleep(3600))

    with pytest.raises(AssertionError, match="left behind"):
        Suite(Littering).test_reads_what_was_put()


def test_the_suite_catches_torn_streams_and_wrong_ranges() -> None:
    class Torn(MemoryBackend):
        async def put(self, key: str, data: Buffer | AsyncIterable[Buffer]) -> None:
            if isinstance(data, (bytes, bytearray, memoryview)):
                return await super().put(key, data)
            whole = b""
            async for piece in data:
                whole += bytes(piece)
                await super().put(key, whole)
            return await super().put(key, whole)

    with pytest.raises(AssertionError):
        Suite(Torn).test_a_broken_stream_changes_nothing()
    spoilt = Suite(lambda: FaultyBackend(MemoryBackend(), Fault("corrupt", nth=3)))
    with pytest.raises(AssertionError):
        spoilt.test_reads_ranges()


def test_what_a_backend_states_that_it_cannot_do_is_skipped() -> None:
    class Plain(MemoryBackend):
        @property
        def capabilities(self) -> Capabilities:
            return Capabilities(create=False, replace=False, ordered=False)

    for test in (
        "test_one_of_many_creates_is_done",
        "test_one_of_many_replaces_is_done",
        "test_pages_show_everything_once",
        "test_another_backend_sees_the_same",
    ):
        with pytest.raises(unittest.SkipTest):
            getattr(Suite(Plain), test)()
    Suite(Plain).test_lists_direct_children()


def test_a_reply_of_the_suite_may_be_in_doubt() -> None:
    done, refused = PutReply(PutStatus.DONE), PutReply(PutStatus.REFUSED)
    unknown = PutReply(PutStatus.UNKNOWN)
    check_one_winner([refused, done, unknown], 1)
    check_one_winner([refused, unknown, refused], 1)
    for replies in ([refused, refused], [done, done], [done, unknown]):
        with pytest.raises(AssertionError):
            check_one_winner(replies, 1)
