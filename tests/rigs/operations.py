"""Every operation of a registry and of a store, each as a preparation and a call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from tests.rigs.world import World

SMALL = {"n": 1, "list": [1, 2, 3]}
OTHER = {"n": 2}
LARGE = bytes(range(256)) * 1200  # 300 KB, so it does not fit into a record
LARGER = LARGE[::-1]

Step = Callable[[World], Awaitable[Any]]


@dataclass(frozen=True)
class Operation:
    """One call. ``whole`` says that it is all or nothing, not one version at a time."""

    name: str
    call: Step
    prepare: Step | None = None
    mutable: bool = False
    whole: bool = True


async def _small(w: World) -> None:
    await w.a.save("x", SMALL)


async def _two(w: World) -> None:
    await w.a.save("x", SMALL)
    await w.a.save("x", OTHER)


async def _large(w: World) -> None:
    await w.a.save("x", LARGE)


async def _others(w: World) -> None:
    """The registries exist, without the object that is asked for."""
    for registry in (w.a, w.b, w.c):
        await registry.save("y", OTHER)


async def _small_and_others(w: World) -> None:
    await _others(w)
    await w.b.save("x", SMALL)


async def _large_and_others(w: World) -> None:
    await _others(w)
    await w.b.save("x", LARGE)


async def _iterate(things: Any) -> list[Any]:
    return [thing async for thing in things]


async def _write(opened: Any, *pieces: bytes) -> None:
    async with opened as writer:
        for piece in pieces:
            await writer.write(piece)


async def _read(opened: Any) -> bytes:
    async with opened as reader:
        await reader.read_range(10, 20)
        reader.seek(0)
        return b"".join([chunk async for chunk in reader.iter_chunks(100_000)])


REGISTRY = [
    Operation("first save creates the registry", lambda w: w.a.save("x", SMALL)),
    Operation("first load opens the registry", lambda w: w.fresh().load("x"), _large),
    Operation("first save opens the registry", lambda w: w.fresh().save("x", LARGE), _small),
    Operation("save inline", lambda w: w.a.save("x", SMALL), _two),
    Operation("save large", lambda w: w.a.save("x", LARGE), _two),
    Operation("save explicit", lambda w: w.a.save("x", SMALL, version="2.0.0"), _two),
    Operation("save explicit large", lambda w: w.a.save("x", LARGE, version="2.0.0"), _two),
    Operation(
        "save with skip", lambda w: w.a.save("x", LARGE, version="1.0.0", on_conflict="skip"), _two
    ),
    Operation("overwrite", lambda w: w.a.save("x", OTHER, version="1.0.0"), _small, mutable=True),
    Operation(
        "overwrite large", lambda w: w.a.save("x", LARGER, version="1.0.0"), _large, mutable=True
    ),
    Operation(
        "save a batch",
        lambda w: w.a.save(["x", "y", "x"], [SMALL, LARGE, OTHER]),
        _others,
        whole=False,
    ),
    Operation("load latest", lambda w: w.a.load("x"), _two),
    Operation("load pinned", lambda w: w.a.load("x", "1.0.0"), _two),
    Operation("load large", lambda w: w.a.load("x"), _large),
    Operation("load_record", lambda w: w.a.load_record("x"), _large),
    Operation("load a batch", lambda w: w.a.load(["x", "y", "x@1.0.0"]), _two),
    Operation("get", lambda w: w.a.get("missing", None), _two),
    Operation("has_object", lambda w: w.a.has_object("x"), _two),
    Operation("info", lambda w: w.a.info("x"), _two),
    Operation("verify", lambda w: w.a.verify("x"), _large),
    Operation("list_versions", lambda w: w.a.list_versions("x"), _two),
    Operation("list_objects", lambda w: w.a.list_objects(), _others),
    Operation("list_objects_and_versions", lambda w: w.a.list_objects_and_versions(), _others),
    Operation("items", lambda w: _iterate(w.a.items()), _others),
    Operation("delete", lambda w: w.a.delete("x", "1.0.0"), _two),
    Operation("delete and purge", lambda w: w.a.delete("x", "1.0.0", purge=True), _large),
    Operation("delete all", lambda w: w.a.delete("x"), _two, whole=False),
    Operation("delete a batch", lambda w: w.a.delete(["x@1.0.0", "x@1.0.1"]), _two, whole=False),
    Operation("pop", lambda w: w.a.pop("x"), _two),
    Operation("pop large", lambda w: w.a.pop("x"), _large),
    Operation("setdefault", lambda w: w.a.setdefault("x", SMALL), _others),
    Operation("setdefault large", lambda w: w.a.setdefault("x", LARGE), _others),
    Operation("setdefault, there", lambda w: w.a.setdefault("x", OTHER), _small),
    Operation("update", lambda w: w.a.update({"x": SMALL, "z": LARGE}), _others, whole=False),
    Operation("update from a registry", lambda w: w.b.update(w.a), _two, whole=False),
    Operation("copy", lambda w: w.a.copy("x", target="z"), _two),
    Operation("copy large", lambda w: w.a.copy("x", target="z"), _large),
    Operation("move", lambda w: w.a.move("x", target="z"), _small, whole=False),
    Operation("move large", lambda w: w.a.move("x", target="z"), _large, whole=False),
    Operation("open_writer, inline", lambda w: _write(w.a.open_writer("x"), b"ab", b"cd"), _two),
    Operation(
        "open_writer, large", lambda w: _write(w.a.open_writer("x"), b"ab", LARGE, b"cd"), _two
    ),
    Operation("open_reader", lambda w: _read(w.a.open_reader("x")), _large),
]

STORE = [
    Operation("save", lambda w: w.store.save("a/x", LARGE), _others),
    Operation(
        "save a batch",
        lambda w: w.store.save(["a/x", "b/x", "c/x"], [SMALL, LARGE, OTHER]),
        _others,
        whole=False,
    ),
    Operation("load qualified", lambda w: w.store.load("b/x"), _small_and_others),
    Operation("load unqualified", lambda w: w.store.load("x"), _small_and_others),
    Operation("load unqualified large", lambda w: w.store.load("x"), _large_and_others),
    Operation("load unqualified pinned", lambda w: w.store.load("x@1.0.0"), _small_and_others),
    Operation("load a batch", lambda w: w.store.load(["x", "b/x", "a/y"]), _large_and_others),
    Operation("load_record", lambda w: w.store.load_record("x"), _small_and_others),
    Operation("get, nowhere", lambda w: w.store.get("missing", None), _others),
    Operation("has_object", lambda w: w.store.has_object("x"), _small_and_others),
    Operation("locate", lambda w: w.store.locate("x"), _small_and_others),
    Operation("info", lambda w: w.store.info("x"), _small_and_others),
    Operation("list_versions", lambda w: w.store.list_versions("x"), _small_and_others),
    Operation("list_objects", lambda w: w.store.list_objects(), _small_and_others),
    Operation(
        "list_objects_and_versions",
        lambda w: w.store.list_objects_and_versions(),
        _small_and_others,
    ),
    Operation("items", lambda w: _iterate(w.store.items()), _small),
    Operation("delete", lambda w: w.store.delete("b/x"), _small_and_others),
    Operation("pop", lambda w: w.store.pop("b/x"), _small_and_others),
    Operation("setdefault", lambda w: w.store.setdefault("a/x", LARGE), _small_and_others),
    Operation(
        "update", lambda w: w.store.update({"a/x": SMALL, "b/z": LARGE}), _others, whole=False
    ),
    Operation("copy", lambda w: w.store.copy("x", target="a/x"), _large_and_others),
    Operation("move", lambda w: w.store.move("b/x", target="a/x"), _large_and_others, whole=False),
    Operation("open_writer", lambda w: _write(w.store.open_writer("a/x"), LARGE, b"cd"), _others),
    Operation("open_reader", lambda w: _read(w.store.open_reader("x")), _large_and_others),
]
