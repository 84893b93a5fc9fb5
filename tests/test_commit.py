"""The judgement inside every commit, against the truth that no client can see. Lesson L1.

First every short history of a slot, then every interleaving of whole commits with lost replies,
late arrivals and failed read-backs, and last what the commit does on each kind of reply. The
checkers are themselves checked: with a judgement broken in any of its parts they must complain.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Generator, Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

import pytest

from asyncstore import commit as commit_module
from asyncstore.backends.base import Backend, Blob, PutReply, PutStatus
from asyncstore.commit import Settled, Slot, Verdict, judge, read_slot, settle
from asyncstore.errors import (
    BackendCapabilityError,
    BackendError,
    BackendTimeout,
    CommitUnknown,
    IntegrityError,
)
from asyncstore.record import NO_COMMIT, Line, read_line

Judge = Callable[..., Verdict]


def commit_id(name: str) -> str:
    """A commit id that can be recognised: ``c1`` -> ``c1000...``."""
    return name.ljust(32, "0")


OURS = commit_id("c0ffee")


def line_after(commit: str, before: Line | None) -> Line:
    """The line of a record that replaces ``before``."""
    prev, prev2 = (before.commit, before.prev) if before else (NO_COMMIT, NO_COMMIT)
    return Line(True, 0, "0" * 64, commit, prev, prev2)


def record_after(commit: str, before: Line | None) -> bytes:
    """The bytes of a record that replaces ``before``, as far as a commit looks at them."""
    line = line_after(commit, before)
    return f"asv1 D 00000000 {'0' * 64} {commit} {line.prev} {line.prev2}\n".encode()


# Every short history of one slot.


@dataclass(frozen=True)
class History:
    """What happened to a slot, with all that no client sees."""

    line: Line | None
    """What is in the slot now."""
    expected: str
    """What our write was to replace."""
    landed: bool = False
    """Whether our write was ever applied."""
    since: int = 0
    """Commits since our write was prepared, ours included."""
    in_doubt: bool = False
    """Whether any attempt of ours had no answer."""
    under_way: bool = False
    """Whether an attempt of ours may still arrive."""

    def other_commit(self) -> History:
        """Somebody else replaces what is there."""
        line = line_after(commit_id(f"d{self.since}"), self.line)
        return replace(self, line=line, since=self.since + 1)

    def attempt(self, *, late: bool) -> History:
        """We send our write: it arrives now, with no answer where it lands, or maybe later."""
        if late:
            return replace(self, in_doubt=True, under_way=True)
        return self.arrival() if self.unchanged else self

    def arrival(self) -> History:
        """An attempt of ours arrives, unseen by us."""
        if not self.unchanged:
            return self
        line = line_after(OURS, self.line)
        return replace(self, line=line, since=self.since + 1, landed=True, in_doubt=True)

    @property
    def unchanged(self) -> bool:
        """Whether our write would land if it arrived now."""
        return (self.line.commit if self.line else NO_COMMIT) == self.expected


def histories(events: int) -> Iterator[History]:
    """Every history of up to so many events after our write was prepared."""
    for before in range(4):
        line = None
        for number in range(before):
            line = line_after(commit_id(f"b{number}"), line)
        start = History(line, line.commit if line else NO_COMMIT)
        for count in range(events + 1):
            for steps in product(["other", "attempt", "late attempt", "arrival"], repeat=count):
                history = start
                for step in steps:
                    if step == "other":
                        history = history.other_commit()
                    elif step != "arrival":
                        history = history.attempt(late=step == "late attempt")
                    elif history.under_way:
                        history = history.arrival()
                for doubt in {history.in_doubt, True}:  # a refusal may have no answer too
                    yield replace(history, in_doubt=doubt)


HISTORIES = sorted(set(histories(5)), key=repr)


def complaint(judgement: Judge, history: History) -> str | None:
    """What is wrong with the verdict on this history, if anything is."""
    verdict = judgement(OURS, history.expected, history.line, in_doubt=history.in_doubt)
    if verdict is Verdict.OURS and not history.landed:
        return "ours, but never landed"
    if verdict is Verdict.LOST and history.landed:
        return "lost, but landed"
    if verdict is Verdict.LOST and history.unchanged and history.under_way:
        return "lost, but may still land"
    if verdict is Verdict.LOST and history.unchanged:
        return "lost, but nothing stood in its way"
    if verdict is Verdict.RESEND and not history.unchanged:
        return "sent again, but it can no longer land"
    decidable = not history.in_doubt or history.since <= (3 if history.landed else 2)
    if verdict is Verdict.UNKNOWN and decidable:
        return "unknown, but the slot proves it"
    return None


def test_the_verdict_on_every_short_history_is_true() -> None:
    assert [h for h in HISTORIES if complaint(judge, h)] == []


def test_the_histories_reach_every_verdict_and_every_truth() -> None:
    reached = {
        (judge(OURS, h.expected, h.line, in_doubt=h.in_doubt), h.landed, h.in_doubt)
        for h in HISTORIES
    }
    assert reached == {
        (Verdict.OURS, True, True),
        (Verdict.LOST, False, False),
        (Verdict.LOST, False, True),
        (Verdict.RESEND, False, False),
        (Verdict.RESEND, False, True),
        (Verdict.UNKNOWN, False, True),
        (Verdict.UNKNOWN, True, True),
    }
    assert len(HISTORIES) > 100


@pytest.mark.parametrize(
    ("current", "in_doubt", "verdict"),
    [
        (None, False, Verdict.LOST),
        (None, True, Verdict.UNKNOWN),  # against the rules somebody removed it: nothing is proven
        (line_after(OURS, None), False, Verdict.OURS),
        (line_after(commit_id("e"), line_after(commit_id("b"), None)), True, Verdict.LOST),
    ],
)
def test_slots_that_no_history_leads_to(
    current: Line | None, in_doubt: bool, verdict: Verdict
) -> None:
    assert judge(OURS, commit_id("b"), current, in_doubt=in_doubt) is verdict


# Judgements that are broken, each in one way.


def forgets_its_successors(
    commit: str, expected: str, current: Line | None, **doubt: Any
) -> Verdict:
    """Only a slot that still holds our record is called ours."""
    if current is not None:
        unlike = {commit: commit_id("e")}
        prev, prev2 = (unlike.get(one, one) for one in (current.prev, current.prev2))
        current = replace(current, prev=prev, prev2=prev2)
    return judge(commit, expected, current, **doubt)


def remembers_one_successor_only(
    commit: str, expected: str, current: Line | None, **doubt: Any
) -> Verdict:
    """Records name their predecessor, but not the one before it."""
    if current is not None:
        current = replace(current, prev2=commit_id("e"))
    return judge(commit, expected, current, **doubt)


def believes_a_negative_read(
    commit: str, expected: str, current: Line | None, **doubt: Any
) -> Verdict:
    """What is not there at the first look is called lost."""
    verdict = judge(commit, expected, current, **doubt)
    return Verdict.LOST if verdict is Verdict.RESEND else verdict


def forgets_its_doubt(commit: str, expected: str, current: Line | None, **_: Any) -> Verdict:
    """A slot that holds something else is called lost, though we may have been in it."""
    return judge(commit, expected, current, in_doubt=False)


def calls_superseded_success(
    commit: str, expected: str, current: Line | None, **doubt: Any
) -> Verdict:
    """What can no longer be told is called a success that was replaced."""
    verdict = judge(commit, expected, current, **doubt)
    return Verdict.OURS if verdict is Verdict.UNKNOWN else verdict


def takes_anothers_commit_for_its_own(
    commit: str, expected: str, current: Line | None, **doubt: Any
) -> Verdict:
    """Whoever replaced what we wanted to replace is taken for us."""
    if current is not None and current.prev == expected:
        return Verdict.OURS
    return judge(commit, expected, current, **doubt)


def resends_over_anything(
    commit: str, expected: str, current: Line | None, **doubt: Any
) -> Verdict:
    """A changed slot is tried again, for ever."""
    verdict = judge(commit, expected, current, **doubt)
    return Verdict.RESEND if verdict is Verdict.LOST else verdict


def gives_up_at_once(commit: str, expected: str, current: Line | None, **doubt: Any) -> Verdict:
    """Any doubt is answered with unknown, though the slot has the proof."""
    verdict = judge(commit, expected, current, **doubt)
    return Verdict.UNKNOWN if doubt["in_doubt"] and verdict is Verdict.LOST else verdict


@pytest.mark.parametrize(
    ("mutant", "complaints"),
    [
        (forgets_its_successors, {"lost, but landed", "unknown, but the slot proves it"}),
        (remembers_one_successor_only, {"unknown, but the slot proves it"}),
        (
            believes_a_negative_read,
            {"lost, but may still land", "lost, but nothing stood in its way"},
        ),
        (forgets_its_doubt, {"lost, but landed"}),
        (calls_superseded_success, {"ours, but never landed"}),
        (takes_anothers_commit_for_its_own, {"ours, but never landed"}),
        (resends_over_anything, {"sent again, but it can no longer land"}),
        (gives_up_at_once, {"unknown, but the slot proves it"}),
    ],
)
def test_a_broken_judgement_is_caught(mutant: Judge, complaints: set[str]) -> None:
    found = {complaint(mutant, history) for history in HISTORIES} - {None}
    assert found
    assert found <= complaints


# Every interleaving of whole commits. The real ``settle`` loop runs, one request at a time, as a
# function of the replies it got so far; so a state of the world is what is in the slot, the
# replies of every process, the requests that are still under way, and what may yet go wrong.


class Ask:
    """A request, which suspends the coroutine that awaits it until the world replies."""

    def __init__(self, *request: Any) -> None:
        self.request = request

    def __await__(self) -> Generator[tuple[Any, ...], Any, Any]:
        reply = yield self.request
        if isinstance(reply, Exception):
            raise reply
        return reply


class AskingBackend:
    """The two primitives that a commit uses."""

    uri = "model:"

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> Blob | None:
        """Ask what is in the slot."""
        return await Ask("get")

    async def put_if(self, key: str, data: bytes, *, tag: str | None) -> PutReply:
        """Ask to replace the record of this tag."""
        return await Ask("put", data, tag)


async def replacing(backend: Any, commit: str) -> tuple[str, bool | None]:
    """Read the slot and replace what is there: the commit, and whether it is there."""
    try:
        before = await read_slot(backend, "slot")
    except BackendError:
        return commit, False
    over = Slot(before, before.commit if before else None)
    return await committing(backend, commit, over)


async def committing(backend: Any, commit: str, over: Slot) -> tuple[str, bool | None]:
    """Commit over what is expected; None where that could not be learned."""
    record = record_after(commit, over.line)
    try:
        settled = await commit_module._settle(
            backend, "slot", record, commit, over, deadline=math.inf
        )
    except CommitUnknown:
        return commit, None
    except BackendError:
        return commit, False
    return commit, settled.ours


Process = Callable[[], Coroutine[Any, Any, tuple[str, bool | None]]]


@dataclass(frozen=True)
class World:
    """One state of everything."""

    slot: bytes | None
    replies: tuple[tuple[Any, ...], ...]
    budget: tuple[int, ...]
    """How much may yet go wrong, of each kind in ``KINDS``."""
    late: tuple[tuple[bytes, str | None], ...] = ()
    landed: tuple[str, ...] = ()
    """Every commit that was ever applied, in order."""

    def put(self, data: bytes, tag: str | None) -> World | None:
        """The world after this conditional write, or None where its condition does not hold."""
        current = read_line(self.slot, "slot").commit if self.slot else None
        if current != tag:
            return None
        return replace(self, slot=data, landed=(*self.landed, read_line(data, "new").commit))

    def reply(self, process: int, reply: Any, spent: int | None = None) -> World:
        """The world after this reply, which took one of what may go wrong."""
        budget = list(self.budget)
        if spent is not None:
            budget[spent] -= 1
        replies = list(self.replies)
        replies[process] = (*replies[process], reply)
        return replace(self, replies=tuple(replies), budget=tuple(budget))


# Replies that get lost, writes that arrive late, reads that fail, writes that provably fail, writes
# that a client library silently sends twice (so the second is refused), and strangers' commits.
KINDS = ("lost", "late", "reads", "writes", "twice", "others")
LOST_REPLY, LATE, FAILED_READ, FAILED_WRITE, TWICE, STRANGERS = range(len(KINDS))
DONE, REFUSED, UNKNOWN = (
    PutReply(s) for s in (PutStatus.DONE, PutStatus.REFUSED, PutStatus.UNKNOWN)
)
FAILED = PutReply(PutStatus.FAILED, error=BackendError("no space"))
NO_ANSWER = BackendTimeout("no answer")


class Checker:
    """Walks through every state that can be reached, and says what is wrong in the last ones."""

    def __init__(self, *processes: Process) -> None:
        self.processes = processes
        self.states = 0
        self.complaints: set[str] = set()
        self.outcomes: set[tuple[bool | None, ...]] = set()
        self._steps: dict[tuple[int, tuple[Any, ...]], tuple[bool, Any]] = {}

    def run(self, start: bytes | None, **budget: int) -> Checker:
        """Explore from a slot with this record."""
        allowed = tuple(budget.get(kind, 0) for kind in KINDS)
        first = World(start, tuple(() for _ in self.processes), allowed)
        seen = {first}
        todo = [first]
        while todo:
            world = todo.pop()
            following = list(self._next(world))
            if not following:
                self._judge_end(world)
            new = set(following) - seen
            seen |= new
            todo += new
        self.states = len(seen)
        return self

    def _step(self, process: int, replies: tuple[Any, ...]) -> tuple[bool, Any]:
        """What a process does after these replies: (False, its request) or (True, its answer)."""
        known = self._steps.get((process, replies))
        if known is None:
            work = self.processes[process]()
            try:
                request = work.send(None)
                for reply in replies:
                    request = work.send(reply)
                known = False, request
            except StopIteration as end:
                known = True, end.value
            finally:
                work.close()
            self._steps[process, replies] = known
        return known

    def _next(self, world: World) -> Iterator[World]:
        for process in range(len(self.processes)):
            ended, request = self._step(process, world.replies[process])
            if not ended and request[0] == "get":
                blob = None if world.slot is None else Blob(world.slot, len(world.slot), "")
                yield world.reply(process, blob)
                if world.budget[FAILED_READ]:
                    yield world.reply(process, NO_ANSWER, FAILED_READ)
            elif not ended:
                yield from self._next_put(world, process, *request[1:])
        for number, write in enumerate(world.late):
            rest = replace(world, late=world.late[:number] + world.late[number + 1 :])
            yield rest  # it never arrives
            yield rest.put(*write) or rest
        if world.budget[STRANGERS]:
            before = read_line(world.slot, "slot") if world.slot else None
            stranger = record_after(commit_id(f"d{world.budget[STRANGERS]}"), before)
            changed = world.put(stranger, before.commit if before else None)
            assert changed
            yield replace(changed, budget=(*world.budget[:STRANGERS], world.budget[STRANGERS] - 1))

    def _next_put(
        self, world: World, process: int, data: bytes, tag: str | None
    ) -> Iterator[World]:
        applied = world.put(data, tag)
        yield applied.reply(process, DONE) if applied else world.reply(process, REFUSED)
        if world.budget[LOST_REPLY]:
            yield (applied or world).reply(process, UNKNOWN, LOST_REPLY)
        if applied and world.budget[TWICE]:
            yield applied.reply(process, REFUSED, TWICE)
        if world.budget[LATE]:
            under_way = tuple(sorted((*world.late, (data, tag)), key=repr))
            yield replace(world.reply(process, UNKNOWN, LATE), late=under_way)
        if world.budget[FAILED_WRITE]:
            yield world.reply(process, FAILED, FAILED_WRITE)

    def _judge_end(self, world: World) -> None:
        answers = [self._step(i, world.replies[i])[1] for i in range(len(self.processes))]
        self.outcomes.add(tuple(ours for _, ours in answers))
        for commit, ours in answers:
            if ours is True and commit not in world.landed:
                self.complaints.add("ours, but never landed")
            if ours is False and commit in world.landed:
                self.complaints.add("lost, but landed")
            if world.landed.count(commit) > 1:
                self.complaints.add("landed twice")


FIRST = record_after(commit_id("b"), None)
OVER_FIRST = Slot(read_line(FIRST, "first"), commit_id("b"))
C1, C2, C3 = (commit_id(name) for name in ("c1", "c2", "c3"))


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow at once: time is no part of the model."""

    async def at_once(attempt: int, **_: float) -> None:
        pass

    monkeypatch.setattr(commit_module, "backoff", at_once)


def two_on_one_record() -> Checker:
    """Two processes replace the same record, while strangers commit and everything goes wrong."""
    checker = Checker(
        lambda: committing(AskingBackend(), C1, OVER_FIRST),
        lambda: replacing(AskingBackend(), C2),
    )
    return checker.run(FIRST, lost=1, late=1, reads=1, others=3)


def two_creators() -> Checker:
    """Two processes create the same record."""
    checker = Checker(
        lambda: committing(AskingBackend(), C1, Slot()),
        lambda: committing(AskingBackend(), C2, Slot()),
    )
    return checker.run(None, lost=1, late=1, reads=1, writes=1, others=3)


def three_in_a_row() -> Checker:
    """Three processes each replace what they find."""
    checker = Checker(
        lambda: replacing(AskingBackend(), C1),
        lambda: replacing(AskingBackend(), C2),
        lambda: replacing(AskingBackend(), C3),
    )
    return checker.run(FIRST, lost=1, late=1, others=1)


SCENARIOS = [two_on_one_record, two_creators, three_in_a_row]


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize("scenario", SCENARIOS)
async def test_no_interleaving_ends_in_a_lie(scenario: Callable[[], Checker]) -> None:
    checker = scenario()
    assert checker.complaints == set()
    assert checker.states > 1000
    # All answers occur, else nothing was shown.
    assert {answer for outcome in checker.outcomes for answer in outcome} >= {True, False}


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_waiting")
async def test_doubt_about_one_lost_reply_or_late_write_is_always_resolved() -> None:
    """While at most two others commit, the two predecessors in each record are proof enough."""
    for budget in ({"lost": 1}, {"late": 1}, {"twice": 1, "reads": 1}, dict.fromkeys(KINDS, 1)):
        checker = Checker(lambda: committing(AskingBackend(), C1, OVER_FIRST))
        checker.run(FIRST, **(budget | {"others": 2}))
        assert checker.outcomes == {(True,), (False,)}
        assert checker.complaints == set()
    checker = Checker(lambda: committing(AskingBackend(), C1, OVER_FIRST))
    assert checker.run(FIRST, lost=1, others=3).outcomes == {(True,), (False,), (None,)}


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(
    ("mutant", "complaint"),
    [
        (forgets_its_successors, "lost, but landed"),
        (believes_a_negative_read, "lost, but landed"),
        (forgets_its_doubt, "lost, but landed"),
        (calls_superseded_success, "ours, but never landed"),
        (takes_anothers_commit_for_its_own, "ours, but never landed"),
    ],
)
async def test_the_checker_catches_a_broken_judgement(
    monkeypatch: pytest.MonkeyPatch, mutant: Judge, complaint: str
) -> None:
    monkeypatch.setattr(commit_module, "judge", mutant)
    assert complaint in two_on_one_record().complaints


# What a commit does on each kind of reply.


@dataclass
class ScriptedBackend:
    """Replies as it was told to; the last reply is repeated."""

    puts: list[PutReply]
    reads: list[bytes | Exception | None] = field(default_factory=lambda: [FIRST])
    sent: list[tuple[bytes, str | None]] = field(default_factory=list)
    uri: str = "script:"

    async def get(self, key: str, *, start: int = 0, length: int | None = None) -> Blob | None:
        """The next of ``reads``."""
        found = self.reads.pop(0) if len(self.reads) > 1 else self.reads[0]
        if isinstance(found, Exception):
            raise found
        return None if found is None else Blob(found[:length], len(found), "")

    async def put_if(self, key: str, data: bytes, *, tag: str | None) -> PutReply:
        """The next of ``puts``."""
        self.sent.append((data, tag))
        return self.puts.pop(0) if len(self.puts) > 1 else self.puts[0]


MINE = record_after(OURS, OVER_FIRST.line)
THEIRS = record_after(C1, OVER_FIRST.line)


async def settling(backend: Any, *, deadline: float = math.inf) -> Settled:
    """Commit our record over the first one."""
    connected: Backend = backend
    return await settle(connected, "slot", MINE, commit=OURS, over=OVER_FIRST, deadline=deadline)


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(
    ("puts", "reads", "settled"),
    [
        ([DONE], [None], Settled(True)),
        ([REFUSED], [THEIRS], Settled(False, read_line(THEIRS, "theirs"))),
        ([REFUSED], [MINE], Settled(True, read_line(MINE, "mine"))),
        ([UNKNOWN], [MINE], Settled(True, read_line(MINE, "mine"))),
        ([UNKNOWN], [THEIRS], Settled(False, read_line(THEIRS, "theirs"))),
        ([UNKNOWN, DONE], [FIRST], Settled(True)),
        ([UNKNOWN, REFUSED], [FIRST, MINE], Settled(True, read_line(MINE, "mine"))),
        ([UNKNOWN, FAILED], [NO_ANSWER, MINE], Settled(True, read_line(MINE, "mine"))),
        ([REFUSED, DONE], [NO_ANSWER], Settled(True)),
    ],
)
async def test_replies_are_settled(
    puts: list[PutReply], reads: list[bytes | Exception | None], settled: Settled
) -> None:
    backend = ScriptedBackend(list(puts), list(reads))
    assert await settling(backend) == settled
    assert set(backend.sent) == {(MINE, commit_id("b"))}  # the same bytes each time


@pytest.mark.asyncio
async def test_a_write_that_provably_failed_says_so() -> None:
    backend = ScriptedBackend([FAILED])
    with pytest.raises(BackendError, match="no space"):
        await settling(backend)
    assert len(backend.sent) == 1


@pytest.mark.asyncio
async def test_a_write_that_is_not_durable_is_not_acknowledged() -> None:
    reply = PutReply(PutStatus.NOT_DURABLE, error=BackendError("fsync failed"))
    with pytest.raises(CommitUnknown, match=r"could not be flushed to the disk \(fsync") as caught:
        await settling(ScriptedBackend([reply], [MINE]))
    assert caught.value.commit == OURS


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_waiting")
async def test_refusals_without_a_reason_unmask_the_backend() -> None:
    with pytest.raises(BackendCapabilityError, match="does not keep its promise of conditional"):
        await settling(ScriptedBackend([REFUSED], [FIRST]))


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(
    ("later", "answer"), [(MINE, True), (THEIRS, False), (FIRST, None), (None, None)]
)
async def test_doubt_at_the_deadline_can_be_resolved_later(
    later: bytes | None, answer: bool | None
) -> None:
    backend = ScriptedBackend([UNKNOWN], [FIRST])
    with pytest.raises(CommitUnknown, match="could not be learned in time") as caught:
        await settling(backend, deadline=-math.inf)
    assert len(backend.sent) == 1  # once even past the deadline
    assert caught.value.commit == OURS
    backend.reads = [later]
    assert await caught.value.resolve() is answer
    backend.reads = [NO_ANSWER]
    with pytest.raises(BackendTimeout):
        await caught.value.resolve()


@pytest.mark.asyncio
@pytest.mark.usefixtures("no_waiting")
async def test_what_can_never_be_told_is_not_asked_for_ever() -> None:
    slot = OVER_FIRST.line
    for name in ("d1", "d2", "d3"):
        slot = line_after(commit_id(name), slot)
    assert slot is not None
    much_later = record_after(commit_id("d4"), slot)
    backend = ScriptedBackend([UNKNOWN], [much_later])
    with pytest.raises(CommitUnknown):
        await settling(backend)
    assert len(backend.sent) == 1


@pytest.mark.asyncio
async def test_a_corrupt_slot_is_no_answer() -> None:
    with pytest.raises(IntegrityError, match="script:/slot is corrupt"):
        await settling(ScriptedBackend([REFUSED], [b""]))


@pytest.mark.asyncio
async def test_cancellation_lets_the_commit_end_first() -> None:
    sending, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    class Slow(ScriptedBackend):
        async def put_if(self, key: str, data: bytes, *, tag: str | None) -> PutReply:
            sending.set()
            await go_on.wait()
            return await super().put_if(key, data, tag=tag)

        async def get(self, key: str, *, start: int = 0, length: int | None = None) -> Blob | None:
            ended.set()
            return await super().get(key, start=start, length=length)

    work = asyncio.create_task(settling(Slow([UNKNOWN], [MINE])))
    await sending.wait()
    work.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await work
    assert ended.is_set()


@pytest.mark.asyncio
async def test_a_commit_that_hangs_past_its_grace_is_cancelled_with_its_doubt_as_the_cause(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commit_module, "COMMIT_GRACE", 0.01)
    sending = asyncio.Event()

    class Hanging(ScriptedBackend):
        async def put_if(self, key: str, data: bytes, *, tag: str | None) -> PutReply:
            sending.set()
            await asyncio.Event().wait()
            raise AssertionError

    work = asyncio.create_task(settling(Hanging([UNKNOWN])))
    await sending.wait()
    work.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await work
    assert isinstance(caught.value.__cause__, CommitUnknown)
    assert caught.value.__cause__.commit == OURS
