"""What holds for every test: nothing is left behind, and nothing blocks the event loop."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import threading
from collections.abc import AsyncIterator, Iterator
from multiprocessing import resource_tracker
from pathlib import Path

import pytest
import pytest_asyncio
from blockbuster import BlockBuster, blockbuster_ctx

from tests.servers.fixtures import *  # noqa: F403
from tests.support import KINDS, Places, make_bucket, on_s3

_DESCRIPTORS = Path("/proc/self/fd")

_SYNC_LOOP = "asyncstore-sync"
"""The thread of the synchronous face, whose event loop lives as long as the process."""

_BELOW = {"test_local_backend", "test_local_places", "test_sync"}
"""Modules that call on purpose what blocks, from a test that runs a loop as well."""


_ALONE = {
    "test_discovery_speed", "test_docs", "test_kill", "test_processes", "test_s3_clients",
    "test_s3_faults", "test_stalls", "test_web_example",
}  # fmt: skip
"""Modules that measure time or need every core, so that nothing else may run beside them, and one
whose tests build on each other, so that one process has to run them all."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in _ALONE:
            item.add_marker("alone")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "alone: the test runs by itself, in one process")
    config.addinivalue_line(
        "markers", "leaves_staging: the test kills writers, which cannot clean up behind them"
    )


@pytest.fixture(autouse=True)
def _a_no_open_files() -> Iterator[None]:
    """Fails a test that leaves files or sockets open. First in the alphabet, so last to look."""
    before, had_loop = _open_files(), _has_sync_loop()
    yield
    if _has_sync_loop() and not had_loop:
        return  # it was started just now, with descriptors of its own
    if len(_open_files()) > len(before):
        gc.collect()  # an exception that was caught may still hold a frame
        after = _open_files()
        left = [f"{fd}: {what}" for fd, what in after.items() if before.get(fd) != what]
        assert len(after) <= len(before), f"left open: {left}"


def _has_sync_loop() -> bool:
    return any(thread.name == _SYNC_LOOP for thread in threading.enumerate())


def _open_files() -> dict[str, str]:
    """What is open, by descriptor, but for what multiprocessing keeps for good."""
    kept = getattr(resource_tracker._resource_tracker, "_fd", None)  # type: ignore[attr-defined]
    found: dict[str, str] = {}
    if _DESCRIPTORS.is_dir():
        for fd in os.listdir(_DESCRIPTORS):
            try:
                what = os.readlink(_DESCRIPTORS / fd)
            except OSError:  # the one that this listing itself had open
                continue
            if int(fd) != kept and not what.startswith("/dev/shm/pym-"):
                found[fd] = what
    return found


@pytest.fixture(autouse=True)
def _b_no_staged_files(request: pytest.FixtureRequest, _a_no_open_files: None) -> Iterator[None]:
    """Fails a test that leaves a file in the staging directory of a registry it used."""
    folder: Path | None = None
    if "tmp_path" in request.fixturenames and not request.node.get_closest_marker("leaves_staging"):
        folder = request.getfixturevalue("tmp_path")
    yield
    if folder is not None:
        found = folder.rglob("t/*")
        staged = [str(path) for path in found if (path.parents[1] / "asv.json").is_file()]
        assert not staged, f"left staged: {staged}"


@pytest.fixture(autouse=True)
def _c_no_running_tasks(request: pytest.FixtureRequest, _b_no_staged_files: None) -> None:
    """Fails a test that leaves a task running."""
    function = getattr(request, "function", None)
    if inspect.iscoroutinefunction(function) and not request.node.get_closest_marker("anyio"):
        request.getfixturevalue("_tasks_end")


@pytest_asyncio.fixture
async def _tasks_end() -> AsyncIterator[None]:
    yield
    await asyncio.sleep(0)
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert not left, f"left running: {left}"


@pytest.fixture(autouse=True)
def blockbuster(
    request: pytest.FixtureRequest, _c_no_running_tasks: None
) -> Iterator[BlockBuster | None]:
    """Fails a test in which asyncstore blocks the event loop."""
    if request.path.stem in _BELOW:
        yield None
        return
    with blockbuster_ctx("asyncstore") as detector:
        # A relative path is made absolute when a backend is made; nothing is read from the disk.
        detector.functions["os.getcwd"].can_block_in("asyncstore/backends/local.py", {"__init__"})
        yield detector


@pytest_asyncio.fixture(params=[*sorted(KINDS), "moto"])
async def places(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Places]:
    """Places for registries; a test that asks for them runs once on every kind of backend."""
    if request.param == "moto":
        url = request.getfixturevalue("moto_server").url
        make_bucket(url)
        found = Places(on_s3(url), tmp_path, remote=True)
    else:
        found = Places(KINDS[request.param], tmp_path)
    yield found
    await found.aclose()
