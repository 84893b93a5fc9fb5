"""Killing writers with SIGKILL at random moments, over and over (rig R6; lessons L4 and A3).

A child saves, overwrites and deletes, and says over a pipe what it is about to do and what was
acknowledged. The parent kills it at a random moment, opens the registry anew and checks: every
acknowledged save loads, everything that is listed loads with a value that was written there,
nothing torn is visible, and saving goes on at once, because a dead process holds no lock.

``python -m tests.rigs.kill --cycles 10000`` runs it for longer; ``--seed`` repeats a run's choices.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from asyncstore import AsyncRegistry

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["asyncstore", "asyncstore.backends.local", __name__])

NAMES = ("x", "y")
SLOTS = ("90.0.0", "91.0.0", "92.0.0")
"""Versions that are overwritten and deleted over and over, above all automatic ones."""
CYCLES_OF_ONE_REGISTRY = 10
LONGEST = 0.012
"""Seconds after which a writer is killed at the latest."""


def value_of(token: int) -> Any:
    """What is saved under a token: every third is too large for its record."""
    return {"token": token, "filler": "é" * 50} if token % 3 else token.to_bytes(8, "big") * 12_500


def token_of(value: Any) -> int:
    """The token of a value, which must be whole."""
    token = value["token"] if isinstance(value, dict) else int.from_bytes(value[:8], "big")
    assert value == value_of(token), "a value is torn"
    return int(token)


def write_until_killed(root: str, durability: Any, start: int, pipe: Connection) -> None:
    """The child: wait for the word, then write without end."""

    async def write() -> None:
        # Whatever is slow only once is done before the clock runs.
        await AsyncRegistry("memory://").save("x", value_of(start))
        registry = AsyncRegistry(root, mutable=True, durability=durability)
        await registry.has_object("x")
        pipe.send(("ready", "", None, None))
        pipe.recv()
        dice = random.Random(start)
        for token in range(start, start + 100_000):
            name = dice.choice(NAMES)
            what = dice.choice(("auto", "auto", "explicit", "overwrite", "delete"))
            if what == "auto":
                pipe.send(("begin", name, None, token))
                version = await registry.save(name, value_of(token), on_conflict="error")
                pipe.send(("saved", name, version, token))
            elif what == "explicit":
                version = f"1.{token}.0"
                pipe.send(("begin", "explicit", version, token))
                await registry.save("explicit", value_of(token), version=version)
                pipe.send(("saved", "explicit", version, token))
            elif what == "overwrite":
                version = dice.choice(SLOTS)
                pipe.send(("begin", "slots", version, token))
                await registry.save("slots", value_of(token), version=version)
                pipe.send(("saved", "slots", version, token))
            else:
                version = dice.choice(SLOTS)
                pipe.send(("begin", "slots", version, None))
                if await registry.has_object("slots", version):
                    await registry.delete("slots", version)
                pipe.send(("saved", "slots", version, None))

    asyncio.run(write())


@dataclass
class Known:
    """What the parent knows of one registry from what the children told."""

    acknowledged: dict[tuple[str, str], int | None] = field(default_factory=dict)
    """The token that a slot holds for certain (None: deleted) unless ``doubtful`` holds it too."""
    doubtful: dict[tuple[str, str], set[int | None]] = field(default_factory=dict)
    """What was begun there after it and never acknowledged."""
    begun: set[int] = field(default_factory=set)
    """Every token that was ever begun."""

    def take(self, told: list[tuple[str, str, str | None, int | None]]) -> int:
        """Note what one child told before it was killed; answers how many were acknowledged."""
        acknowledgements = 0
        for what, name, version, token in told:
            if token is not None:
                self.begun.add(token)
            if version is None:
                continue
            if what == "begin":
                self.doubtful.setdefault((name, version), set()).add(token)
            elif what == "saved":
                self.acknowledged[name, version] = token
                self.doubtful.pop((name, version), None)
                acknowledgements += 1
        return acknowledgements

    async def check(self, root: str, durability: Any) -> int:
        """Open the registry anew and check all of it, and save to it; answers what is listed."""
        registry = AsyncRegistry(root, mutable=True, durability=durability)
        found: dict[tuple[str, str], int] = {}
        for name, versions in (await registry.list_objects_and_versions()).items():
            for version in versions:
                found[name, version] = token_of(await registry.load(name, version))
        for slot, token in found.items():
            assert token in self.begun, f"{slot} holds what nobody wrote"
        for slot in {*self.acknowledged, *self.doubtful}:
            # A slot that nobody was known to have filled may be empty for all that was said.
            possible = {self.acknowledged.get(slot), *self.doubtful.get(slot, ())}
            assert found.get(slot) in possible, f"{slot}: {found.get(slot)}, not of {possible}"
        for slot in found.keys() - self.acknowledged.keys() - self.doubtful.keys():
            assert slot[0] in NAMES, f"{slot} is there, and nobody wrote to it"
        # What is in the slot now is certain from here on: a dead writer writes no more.
        for slot in self.doubtful:
            self.acknowledged[slot] = found.get(slot)
        self.doubtful.clear()
        self.acknowledged.update(found)
        began = time.perf_counter()
        for slot in SLOTS[:1]:
            await registry.save("slots", value_of(0), version=slot)
            self.acknowledged["slots", slot] = 0
        version = await registry.save("x", value_of(0), on_conflict="error")
        assert ("x", version) not in found, "a version was given out twice"
        self.acknowledged["x", version] = 0
        self.begun.add(0)
        waited = time.perf_counter() - began
        assert waited < 5, f"saving after a kill took {waited:.1f} s: does the dead hold a lock?"
        await registry.aclose()
        return len(found)


@dataclass
class Report:
    """What a run did."""

    cycles: int = 0
    acknowledged: int = 0
    in_flight: int = 0
    checked: int = 0
    stray: int = 0
    moments: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        when = ", ".join(f"{count} in {what}" for what, count in sorted(self.moments.items()))
        return (
            f"{self.cycles} kill -9 cycles, {self.acknowledged} acknowledged writes, "
            f"{self.in_flight} kills in the middle of one ({when}), {self.checked} versions "
            f"loaded, {self.stray} stray staged files: 0 lost, 0 torn"
        )


class Victim:
    """A child that is ready to write."""

    def __init__(self, root: str, durability: str, start: int) -> None:
        self.pipe, child = PROCESSES.Pipe()
        self.process = PROCESSES.Process(
            target=write_until_killed, args=(root, durability, start, child), daemon=True
        )
        self.process.start()
        child.close()

    def start(self) -> None:
        """Let it write."""
        self.pipe.recv()
        self.pipe.send("go")

    def kill(self) -> list[Any]:
        """Kill it, and answer everything that it told before."""
        assert self.process.pid is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.join()
        told = []
        try:
            while self.pipe.poll():
                told.append(self.pipe.recv())
        except (EOFError, OSError):
            pass  # the last message may be cut short
        self.pipe.close()
        self.process.close()
        return told


def run(
    *, cycles: int | None = None, seconds: float | None = None, seed: int, place: Path
) -> Report:
    """Kill so many writers, or as many as fit into the time."""
    dice = random.Random(seed)
    report = Report()
    began = time.monotonic()
    token = 1

    def enough() -> bool:
        if cycles is not None:
            return report.cycles >= cycles
        return time.monotonic() - began > (seconds or 0.0)

    while not enough():
        durability = dice.choice(("full", "fast"))
        root = str(place / f"registry-{report.cycles}")
        known = Known(begun={0})
        victim = Victim(root, durability, token)
        for _ in range(CYCLES_OF_ONE_REGISTRY):
            victim.start()
            token += 100_000
            following = Victim(root, durability, token)  # gets ready while this one writes
            time.sleep(dice.uniform(0.0, LONGEST))
            told = victim.kill()
            report.cycles += 1
            report.acknowledged += known.take(told)
            if told and told[-1][0] == "begin":
                report.in_flight += 1
                report.moments["a deletion" if told[-1][3] is None else "a save"] += 1
            report.checked += asyncio.run(known.check(root, durability))
            victim = following
            if enough():
                break
        victim.kill()
        staging = Path(root) / "t"
        report.stray += len(list(staging.iterdir())) if staging.exists() else 0
        shutil.rmtree(root)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as place:
        began = time.monotonic()
        report = run(cycles=options.cycles, seed=options.seed, place=Path(place))
        print(f"{report} in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
