"""The synchronous face: the same API without await, the dict protocol, Ctrl-C and fork."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    RegistryObjectNotFound,
    StoreAmbiguousObjectError,
    StoreMount,
)
from asyncstore.backends import MemoryBackend
from asyncstore.sync import Registry, Store
from asyncstore.sync.loop import run as on_the_loop
from asyncstore.testing import SlowBackend
from tests.documents import ROOT


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store({"a": tmp_path / "a", "b": Registry("memory://")}) as made:
        yield made


def test_every_public_method_has_its_synchronous_form() -> None:
    own_ways = {"aclose", "within", "open_reader", "open_writer"}
    inner = {  # what a store asks of a registry, and no user of either
        "backend", "copy_from", "delete_exactly", "discovery", "draft", "encode", "fetch",
        "fetch_found", "materialize", "meter", "move_from", "open_to_read", "open_to_change",
        "open_to_write", "place_to_read",
        "place_to_write", "probe", "reading", "record_of", "save_one", "users",
        "watching",
    }  # fmt: skip
    for asynchronous, synchronous in ((AsyncStore, Store), (AsyncRegistry, Registry)):
        public = {name for name in dir(asynchronous) if not name.startswith("_")}
        missing = public - set(dir(synchronous)) - own_ways - inner
        assert missing == set()


def test_a_store_is_a_dict(store: Store) -> None:
    store["a/x"] = {"n": 1}
    store["b/y"] = (2, 3)
    assert store["x"] == {"n": 1}
    assert store["b/y"] == (2, 3)
    assert "x" in store
    assert "a/x" in store
    assert "z" not in store
    assert 3 not in store
    assert len(store) == 2
    assert list(store) == ["a/x", "b/y"]
    assert dict(store.items()) == {"a/x": {"n": 1}, "b/y": (2, 3)}
    assert list(store.keys()) == ["a/x", "b/y"]
    assert list(store.values()) == [{"n": 1}, (2, 3)]
    del store["a/x"]
    assert "x" not in store
    with pytest.raises(KeyError):
        store["x"]
    with pytest.raises(KeyError):
        del store["a/x"]


def test_a_registry_is_a_dict(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry["x"] = 1
    assert registry["x"] == 1
    assert "x" in registry
    assert list(registry) == ["x"]
    del registry["x"]
    assert len(registry) == 0
    registry.close()


def test_an_empty_store_is_true(store: Store) -> None:
    assert len(store) == 0
    assert store
    assert Registry("memory://")


def test_errors_come_through_as_they_are(store: Store) -> None:
    store.save(["a/x", "b/x"], [1, 2]).raise_for_errors()
    with pytest.raises(StoreAmbiguousObjectError) as caught:
        store.load("x")
    assert caught.value.locations == ["a", "b"]
    with pytest.raises(RegistryObjectNotFound):
        store.pop("a/nothing")
    assert store.pop("a/nothing", None) is None


def test_iteration_may_stop_half_way(store: Store) -> None:
    store.save([f"a/x{n}" for n in range(10)], list(range(10))).raise_for_errors()
    assert next(iter(store.iter_objects("a"))) == "a/x0"
    assert len(store) == 10


def test_raw_bytes_are_written_and_read(store: Store) -> None:
    with store.open_writer("a/log") as writer:
        writer.write(b"one ")
        writer.write(b"two")
    assert writer.version == "1.0.0"
    with store.open_reader("log") as reader:
        assert reader.size == 7
        assert reader.read(4) == b"one "
        assert reader.tell() == 4
        assert reader.seek(0) == 0
        assert b"".join(reader.iter_chunks(2)) == b"one two"
        assert reader.read_range(4, 7) == b"two"


def test_an_error_while_writing_leaves_nothing(store: Store) -> None:
    def broken() -> None:
        with store.open_writer("a/log") as writer:
            writer.write(b"one")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        broken()
    assert "a/log" not in store


def test_synchronous_registries_can_be_mounted_in_every_way() -> None:
    registry = Registry("memory://")
    store = Store([StoreMount("a", registry)])  # type: ignore[arg-type]
    store.add_mount("b", Registry("memory://"))  # type: ignore[arg-type]
    store.save("a/x", 1)
    assert registry.load("x") == 1
    assert store.list_mounts() == ["a", "b"]


def test_update_takes_a_synchronous_store(store: Store) -> None:
    other = Store({"a": Registry("memory://"), "b": Registry("memory://")})
    store.save("a/x", 1)
    store.save("a/x", 2)
    other.update(store)
    assert other.list_objects_and_versions() == {"a/x": ["1.0.0", "1.0.1"]}


def test_it_works_where_an_event_loop_is_running(store: Store) -> None:
    """A notebook runs its own loop in the main thread."""

    async def cell() -> object:
        store.save("a/x", 1)
        return store.load("x")

    assert asyncio.run(cell()) == 1


def test_calls_from_many_threads_run_side_by_side() -> None:
    store = Store({"a": Registry(SlowBackend(MemoryBackend(), 0.05))})
    failed: list[BaseException] = []

    def save(number: int) -> None:
        try:
            store.save(f"a/x{number}", number)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert len(store) == 20


INTERRUPTED = """
    import asyncio, os, signal
    from asyncstore.backends import MemoryBackend
    from asyncstore.sync import Registry
    from asyncstore.testing import SlowBackend

    class Interrupting(SlowBackend):
        async def passing(self, method, keys, send):
            if self.armed:  # once the call is under way, which will never end by itself
                asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
            return await super().passing(method, keys, send)

    slow = Interrupting(MemoryBackend())
    slow.armed = False
    registry = Registry(slow)
    registry.save("x", 1)
    slow.armed = True
    slow.hang()
    try:
        registry.load("x")
    except KeyboardInterrupt:
        assert not slow.waiting, "the call was still under way"
        slow.armed = False
        slow.resume()
        assert registry.load("x") == 1
        print("interrupted cleanly")
"""


def test_ctrl_c_cancels_the_call_and_waits_for_its_end(tmp_path: Path) -> None:
    assert run(INTERRUPTED, tmp_path) == "interrupted cleanly\n"


FORKED = """
    import os, sys, warnings
    from asyncstore.sync import Store

    warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of fork with threads
    store = Store({"a": sys.argv[1]})
    store.save("a/x", 1)
    child = os.fork()
    if child == 0:
        try:
            assert store.load("a/x") == 1
            store.save("a/child", 2)
            os._exit(0)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    print(store.load("a/child"))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_starts_a_loop_of_its_own(tmp_path: Path) -> None:
    assert run(FORKED, tmp_path, str(tmp_path / "store")) == "2\n"


def test_the_loop_does_not_keep_the_process_alive(tmp_path: Path) -> None:
    program = "from asyncstore.sync import Store; Store({'a': 'memory://'}).save('a/x', 1)"
    assert run(program, tmp_path) == ""


HALF_READ = """
    from asyncstore.sync import Store

    store = Store({"a": "memory://"})
    store.save(["a/x", "a/y", "a/z"], [1, 2, b"3"])
    keys = iter(store)
    next(keys)
    items = store.items()
    next(items)
    reading = store.open_reader("a/z")
    reader = reading.__enter__()
    print("the end")
"""


def test_what_was_left_half_read_does_not_hold_up_the_exit(tmp_path: Path) -> None:
    assert run(HALF_READ, tmp_path) == "the end\n"


AT_THE_VERY_END = """
    from asyncstore.sync import Store

    store = Store({"a": "memory://"})
    store["a/x"] = 1

    class Late:
        def __del__(self):
            try:
                store["a/x"]
            except RuntimeError as error:
                print(error)

    late = Late()
"""


def test_a_call_while_the_interpreter_shuts_down_is_an_error(tmp_path: Path) -> None:
    assert "shutting down" in run(AT_THE_VERY_END, tmp_path)


def test_iterators_that_are_collected_in_the_loop_do_not_wait_for_it(store: Store) -> None:
    store.save(["a/x", "a/y"], [1, 2])
    keys = iter(store)
    next(keys)
    cycle: list[object] = [keys]
    cycle.append(cycle)
    del keys, cycle

    async def collect() -> None:
        gc.collect()

    gc.disable()
    try:
        on_the_loop(collect)
    finally:
        gc.enable()
    assert list(store) == ["a/x", "a/y"]


def test_a_store_answers_its_registries_in_their_synchronous_form() -> None:
    registry = Registry("memory://")
    store = Store({"a": registry, "b": "memory://"})
    store["b/x"] = 1
    assert store.resolve_registry("a") is registry
    assert store.resolve_registry("b/x").load("x") == 1


def run(program: str, folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program), *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGINT), done.stderr
    assert not done.stderr
    return done.stdout
