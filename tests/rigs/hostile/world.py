"""The place where hostile cases play, and the checks after each."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import stat
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from asyncstore import AsyncRegistry, AsyncStoreError, IntegrityError
from asyncstore.backends.local import LocalBackend
from asyncstore.backends.memory import MemoryBackend
from tests.rigs.hostile import records, settings
from tests.rigs.hostile.archives import WEIGHTS, Archives
from tests.rigs.hostile.case import NAME, TRAPS, Case
from tests.rigs.hostile.watch import Watch, looks_of

MOST_SECONDS = 5.0
"""Time that all threads together may spend on one case, which is asked for in six ways."""
MOST_MEMORY = 600 * 1024
"""KiB that any case may add to what the process has needed so far."""
MOST_SAID = 2_000
"""Characters of the longest error message."""
Ways = list[tuple[str, Callable[[], Awaitable[Any]]]]
"""In which ways a case is asked for."""
_EVERY = 200
_LINUX = sys.platform == "linux"
PLANTED = {
    name: f"../../canary/{leads}"
    for name, leads in {
        "data.bin": "secret.txt", "link": "secret.txt", "plain": ".", "sub": "folder", "a": "NEW",
    }.items()
}  # fmt: skip
"""Links that may be in the way where files are loaded to, and where they lead."""


class Harm(AssertionError):
    """What a hostile case must not bring about."""


class World:
    """A folder with a canary, a registry and a target; and what happened in it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.seed = folder, seed
        self.most_seconds, self.most_memory = MOST_SECONDS, MOST_MEMORY
        self.canary, self.around = folder / "canary", folder / "around"
        self.root, self.target = folder / "registry", folder / "around" / "target"
        self.outcomes: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self._plant()
        self._archives = Archives(folder)
        self._makers: list[Callable[[random.Random], Case]] = [
            *[records.hostile_record] * 58, *[records.broken_record] * 12,
            *[records.misplaced_record] * 4, *[self._archives.hostile_archive] * 18,
            *[settings.hostile_settings] * 5, *[settings.hostile_place] * 3,
        ]  # fmt: skip
        self.watch = Watch(reads=[self.root], writes=[self.around])
        self._copies = AsyncRegistry("memory://")

    def _plant(self) -> None:
        self.around.mkdir(parents=True)
        (self.canary / "folder").mkdir(parents=True)
        (self.canary / "secret.txt").write_text("secret")
        (self.canary / "folder" / "data.bin").write_text("not to be touched")
        (self.canary / "link").symlink_to("secret.txt")
        (self.around / "neighbour").write_text("next door")
        traps = self.folder / "traps"
        (traps / "asyncstore_trap_package").mkdir(parents=True)
        code = f"import os\nos.mkdir({str(self.canary / 'FIRED')!r})\nclass Trap: pass\n"
        for trap in ("asyncstore_trap.py", "asyncstore_trap_package/__init__.py",
                     "asyncstore_trap_package/inside.py"):  # fmt: skip
            (traps / trap).write_text(code)
        sys.path.append(str(traps))

    def case(self, number: int) -> tuple[Case, random.Random]:
        """The case of that number: the same for the same seed."""
        chance = random.Random(f"{self.seed}-{number}")
        made = chance.choice(self._makers)(chance)
        on_disk = made.on_disk or chance.random() < 0.1
        made.on_disk = on_disk and all(_is_a_path(key) for key in made.objects)
        return made, chance

    async def warm_up(self) -> None:
        """Have imported whatever the libraries import the first time, before anyone watches."""
        for number in range(-1_000, 0):
            made, ways = await self._prepared(number)
            for name, ask in ways:
                await self._asked(name, ask)
            await made.aclose()
        self.outcomes.clear()
        self.kinds.clear()
        self.begin()

    def begin(self) -> None:
        """What is now is not the doing of the cases to come."""
        self.watch.learn_modules()
        self._before, self._most = self._looks(), _peak()

    async def run(self, numbers: range) -> None:
        """Play these cases; the first that does harm raises :class:`Harm`."""
        for number in numbers:
            made, ways = await self._prepared(number)
            try:
                await self.watched(number, ways)
            except Harm as harm:
                kind = self.case(number)[0].kind
                raise Harm(f"case {number} of seed {self.seed} ({kind}): {harm}") from harm
            finally:
                await made.aclose()
            if number % _EVERY == 0:
                self._copies = AsyncRegistry("memory://")

    async def watched(self, number: int, ways: Ways) -> None:
        """Ask in all of these ways, and look what else came of it."""
        started = time.process_time()
        with self.watch.armed():
            async with asyncio.timeout(20):
                for name, ask in ways:
                    await self._asked(name, ask)
        self._check(time.process_time() - started)

    def complain(self, message: str) -> None:
        """Fail as the library does."""
        raise IntegrityError(message)

    def _looks(self) -> dict[str, tuple[Any, ...]]:
        found = looks_of(self.canary)
        found |= {str(path): (path.lstat().st_mtime_ns,) for path in [self.around / "neighbour"]}
        return found

    def _check(self, seconds: float) -> None:
        peak = _peak()
        problems = [*self.watch.seen, *self.watch.new_modules()]
        if changed := self._looks().items() ^ self._before.items():
            problems.append(f"the canary was touched: {sorted(changed)}")
        if left := {*os.listdir(self.around)} - {"neighbour", "target"}:
            problems.append(f"left beside the target: {left}")
        if seconds > self.most_seconds:
            problems.append(f"it took {seconds:.1f} s")
        if peak - self._most > self.most_memory:
            problems.append(f"it took {(peak - self._most) // 1024} MiB")
        if problems:
            raise Harm("; ".join(problems)[:3_000])
        self._most = max(self._most, peak)

    # -- one case

    async def _prepared(self, number: int) -> tuple[LocalBackend | MemoryBackend, Ways]:
        made, chance = self.case(number)
        self.kinds[made.kind] += 1
        self._prepare(made)
        backend = await self._stored(made)
        registry = AsyncRegistry(backend, entry_points=False)
        return backend, self._ways(registry, made, chance.choice([None, "1.0.0"]), number)

    async def _asked(self, what: str, ask: Callable[[], Awaitable[Any]]) -> None:
        try:
            await ask()
        except AsyncStoreError as error:
            self.outcomes[type(error).__name__] += 1
            if len(str(error)) > MOST_SAID:
                raise Harm(f"{what}: a message of {len(str(error))}: {error!s:.300}") from error
        except Harm as harm:
            raise Harm(f"{what}: {harm}") from harm
        except BaseException as error:
            raise Harm(f"{what}: {type(error).__name__}: {error}") from error
        else:
            self.outcomes["success"] += 1

    def _ways(self, registry: AsyncRegistry, made: Case, version: str | None, number: int) -> Ways:
        async def to_folder() -> None:
            found = await registry.load(NAME, version, output_dir=self.target, as_type=made.as_type)
            self._check_target(found)

        async def copy() -> None:
            target = f"copy-{number}"
            copied = await self._copies.copy_from(registry, NAME, version, target=target)
            assert copied is not None
            await self._copies.verify(target)
            assert (await self._copies.info(target))["hash"] == (await registry.info(NAME))["hash"]

        load = registry.load if number % 4 else registry.load_record
        ways: Ways = [
            ("load", lambda: load(NAME, version, as_type=made.as_type)),
            ("open_reader", lambda: _read(registry, version)),
            ("copy", copy),
            ("info", lambda: registry.info(NAME, version)),
        ]
        if made.kind not in WEIGHTS:  # what is decoded does not go to a folder
            ways.append(("load to a folder", to_folder))
        if made.kind in ("misplaced", "settings", "place") or number % 8 == 0:
            ways.append(("list", lambda: _list(registry)))
        return ways

    def _check_target(self, answer: Any) -> None:
        """All that was written is in the target, and is plain files and folders."""
        if not isinstance(answer, Path):
            return
        if answer != self.target and answer.parent != self.target:
            raise Harm(f"answered {answer}")
        for path, (mode, *_, leads) in looks_of(self.target).items():
            planted = leads is not None and leads == PLANTED.get(os.path.basename(path))
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or planted):
                raise Harm(f"made {path}")

    def _prepare(self, made: Case) -> None:
        """What is at the target: nothing, an empty folder, a file, a folder of links."""
        if os.path.lexists(self.target):
            if self.target.is_dir() and not self.target.is_symlink():
                shutil.rmtree(self.target)
            else:
                self.target.unlink()
        if made.taken == "file":
            self.target.write_text("in the way")
        elif made.taken != "nothing":
            self.target.mkdir()
        if made.taken == "links":
            for name, leads in PLANTED.items():
                (self.target / name).symlink_to(leads)

    async def _stored(self, made: Case) -> LocalBackend | MemoryBackend:
        objects = {"asv.json": settings.GENUINE, **made.objects}
        if not made.on_disk:
            memory = MemoryBackend()
            for key, data in objects.items():
                memory._shelf.set(key, data)
            return memory
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        planted = {*made.links, *made.pipes}
        for key, data in objects.items():
            path = self.root / key
            if not any(key == place or key.startswith(f"{place}/") for place in planted):
                _written(path, data)
        for place, leads in made.links.items():
            (self.root / place).parent.mkdir(parents=True, exist_ok=True)
            (self.root / place).symlink_to(leads.replace("@", str(self.folder)))
        for place in made.pipes:
            (self.root / place).parent.mkdir(parents=True, exist_ok=True)
            os.mkfifo(self.root / place)
        return LocalBackend(self.root, durability="fast")


async def _read(registry: AsyncRegistry, version: str | None) -> None:
    async with registry.open_reader(NAME, version) as reader:
        whole = await reader.read()
        if len(whole) != reader.size:
            raise Harm(f"read {len(whole)} of {reader.size} bytes")
        middle = reader.size // 2
        if await reader.read_range(middle, middle + 9) != whole[middle : middle + 9]:
            raise Harm("a range is something else")
        entry = (await registry.info(NAME, version))["files"][0]
        if not entry.get("c") and sha256(whole).hexdigest() != entry["h"]:
            raise Harm("what was read has another hash")


async def _list(registry: AsyncRegistry) -> None:
    names = [*await registry.list_objects(), *await registry.list_objects_and_versions()]
    for name in names:
        if not isinstance(name, str) or name.startswith(TRAPS):
            raise Harm(f"listed {name!r}")
    await registry.list_versions(NAME)
    await registry.has_object(NAME)


def _is_a_path(key: str) -> bool:
    return all(len(os.fsencode(part)) < 256 for part in key.split("/"))


def _written(path: Path, data: bytes) -> None:
    """Write a file, unless another case's file is where its folder should be."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        return


def _peak() -> int:
    """The most memory, in KiB, that this process has ever had.

    What ``getrusage`` says may be the peak of the process that started it.
    """
    for line in Path("/proc/self/status").read_text().splitlines() if _LINUX else ():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
