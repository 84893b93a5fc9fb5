"""What the processes of ``test_processes.py`` do, all at once, to one registry (rig R8)."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from asyncstore import AsyncRegistry
from asyncstore.backends.base import Backend
from asyncstore.backends.local import LocalBackend
from asyncstore.errors import RegistryObjectNotFound, RegistryVersionConflict
from asyncstore.testing import RecordingBackend

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["asyncstore.testing", "asyncstore.backends.local", __name__])

LARGE = 100_000


@dataclass
class Answer:
    """What one process reports: its results, and how many conditional writes it was refused."""

    results: Any = None
    refused: int = 0
    errors: list[str] = field(default_factory=list)


Job = Callable[[AsyncRegistry, int, Any], Awaitable[Any]]

Place = Callable[[], Backend]
"""Opens the backend of a registry, in another process."""


def _child(job: Job, place: Place, options: dict[str, Any], number: int, argument: Any,
           barrier: Any, pipe: Connection) -> None:  # fmt: skip
    async def work() -> Answer:
        backend = RecordingBackend(place())
        registry = AsyncRegistry(backend, **options)
        # Whatever is slow only once is done before the barrier.
        await AsyncRegistry("memory://").save("x", 1)
        if backend.capabilities.remote:
            await registry.has_object("x")
        barrier.wait(60)
        answer = Answer()
        try:
            answer.results = await job(registry, number, argument)
        except Exception as error:
            answer.errors.append(f"{type(error).__name__}: {error}")
        # A service may tell the loser of a race nothing.
        answer.refused = sum(one.outcome in ("refused", "unknown") for one in backend.requests)
        await backend.aclose()
        return answer

    pipe.send(asyncio.run(work()))


def at_once(root: Path, jobs: Sequence[tuple[Job, Any]], **options: Any) -> list[Answer]:
    """:func:`race` for processes that share a directory."""
    return race([partial(LocalBackend, root, durability="fast")], jobs, **options)


def race(places: Sequence[Place], jobs: Sequence[tuple[Job, Any]], **options: Any) -> list[Answer]:
    """Run each job in a process of its own, all released by one barrier.

    They open their registry by way of the places in turn.
    """
    barrier = PROCESSES.Barrier(len(jobs))
    running = []
    for number, (job, argument) in enumerate(jobs):
        ours, theirs = PROCESSES.Pipe(duplex=False)
        process = PROCESSES.Process(
            target=_child,
            args=(
                job,
                places[number % len(places)],
                options.get(str(number), options),
                number,
                argument,
                barrier,
                theirs,
            ),
            daemon=True,
        )
        process.start()
        theirs.close()
        running.append((process, ours))
    answers = []
    try:
        for _, pipe in running:
            assert pipe.poll(100), "a process gave no answer within 100 s"
            answers.append(pipe.recv())
    finally:
        for process, pipe in running:
            pipe.close()
            process.join(10)
            if process.exitcode is None:
                process.kill()  # ours, by its process id
                process.join()
            process.close()
    return answers


async def _nothing(registry: AsyncRegistry, number: int, argument: Any) -> None:
    """A job that only shows that processes start."""


def warm_up(root: Path) -> None:
    """Start the server that forks, which keeps a few files open from then on."""
    at_once(root, [(_nothing, None)])


# -- jobs ------------------------------------------------------------------------------------------


async def save_many(registry: AsyncRegistry, number: int, count: int) -> list[tuple[str, Any]]:
    """Save one name over and over; every version that was acknowledged, and its value."""
    saved = []
    for turn in range(count):
        value = {"by": number, "turn": turn}
        saved.append((await registry.save("x", value, on_conflict="error"), value))
    return saved


async def pop_one(registry: AsyncRegistry, number: int, name: str) -> Any:
    """Pop one object; None for whoever is too late."""
    return await registry.pop(name, None)


async def overwrite_and_delete(registry: AsyncRegistry, number: int, turns: int) -> int:
    """Overwrite one version, small and large by turns, and delete it now and then."""
    for turn in range(turns):
        fill = bytes([number]) * (LARGE if turn % 2 else 10)
        await registry.save("x", fill, version="1.0.0")
        if turn % 5 == 4:
            try:
                await registry.delete("x", "1.0.0")
            except RegistryObjectNotFound:
                continue  # another one was first
    return turns


async def load_many(registry: AsyncRegistry, number: int, turns: int) -> list[tuple[int, int]]:
    """Load what the others overwrite: the size of each, and how many different bytes it has."""
    found = []
    for turn in range(turns):
        try:
            value = await registry.load("x", "1.0.0" if turn % 2 else None)
        except RegistryObjectNotFound:
            continue
        found.append((len(value), len(set(value))))
    return found


async def save_one(registry: AsyncRegistry, number: int, name: str) -> str:
    """Save once, and so create the registry."""
    version = await registry.save(name, number)
    return f"{version} {(await registry.info())['settings']['id']}"


async def delete_all(registry: AsyncRegistry, number: int, turns: int) -> int:
    """Delete all versions again and again; how often there were any."""
    done = 0
    for _ in range(turns):
        try:
            await registry.delete("x")
        except RegistryObjectNotFound:
            await asyncio.sleep(0.001)
        else:
            done += 1
    return done


async def save_explicit(registry: AsyncRegistry, number: int, count: int) -> list[str]:
    """Save the same numbers as everybody else; those that were won."""
    won = []
    for turn in range(count):
        try:
            won.append(await registry.save("x", number, version=f"1.{turn}.0"))
        except RegistryVersionConflict:
            continue
    return won
