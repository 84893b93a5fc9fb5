"""Harm of every kind done on purpose, to see that it would be noticed."""

from __future__ import annotations

import asyncio
import importlib
import os
import pickle
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.rigs.hostile.archives import pickles
from tests.rigs.hostile.case import TRAPS
from tests.rigs.hostile.world import Harm, World


def harms(world: World) -> dict[str, tuple[Callable[[], object], str]]:
    """What is done, by its name, and what is to be said of it."""
    canary, around = world.canary, world.around

    def import_trap() -> None:
        try:
            importlib.import_module(TRAPS[0])
        finally:
            (canary / "FIRED").rmdir()

    def run_pickle() -> None:
        pickle.loads(pickles(world.folder)[0])
        (canary / "FIRED").rmdir()

    def by_a_library() -> None:  # which no audit event tells of
        subprocess.run(["touch", canary / "secret.txt"], check=True)

    def compute() -> None:
        end = time.process_time() + world.most_seconds
        while time.process_time() < end:
            pass

    return {
        "write": (lambda: (canary / "secret.txt").write_text("x"), "open of "),
        "append": (lambda: os.close(os.open(canary / "secret.txt", os.O_RDWR)), "open of "),
        "read": (lambda: Path("/etc/passwd").read_text(), "open of '/etc/passwd'"),
        "read a canary": (lambda: (canary / "secret.txt").read_text(), "open of "),
        "list": (lambda: os.listdir("/"), "os.listdir of '/'"),
        "climb": (lambda: os.listdir(f"{around}/.."), "os.listdir of "),
        "make": (lambda: (canary / "new").mkdir(), "os.mkdir of "),
        "remove": (lambda: (canary / "new").rmdir(), "os.rmdir of "),
        "move away": (lambda: os.rename(canary / "link", around / "link"), "os.rename of "),
        "leave beside": (lambda: (around / "more").mkdir(), "left beside the target"),
        "link": (lambda: os.symlink(canary, around / "link2"), "os.symlink"),
        "touch": (by_a_library, "the canary was touched"),
        "import": (import_trap, f"import of {TRAPS[0]}"),
        "unpickle": (run_pickle, "pickle.find_class"),
        "run code": (lambda: exec("1"), "exec("),
        "run a program": (lambda: os.system("true"), "os.system"),
        "connect": (lambda: socket.getaddrinfo("localhost", 1), "socket.getaddrinfo"),
        "another error": (lambda: [][1], "IndexError"),
        "an endless message": (lambda: world.complain("x" * 9_999), "a message of 9999"),
        "compute": (compute, "it took "),
        "remember": (lambda: b"x" * (world.most_memory * 1024 + 2**26), "MiB"),
    }  # fmt: skip


async def unnoticed(world: World) -> list[str]:
    """The harm that would go unnoticed: none, if all is well."""
    found: list[str] = []
    for name, (act, complaint) in harms(world).items():
        world.begin()

        async def ask(act: Callable[[], object] = act) -> None:
            act()

        try:
            await world.watched(-1, [(name, ask)])
        except Harm as harm:
            if complaint in str(harm):
                continue
            name = f"{name}: {harm}"
        found.append(name)
    return found


def main(world: World) -> list[str]:
    """Do it all in one loop; computing is called too long a good deal earlier than else."""
    world.most_seconds = 0.5
    return asyncio.run(unnoticed(world))
