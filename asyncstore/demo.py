"""The main job in one sitting: two directories, saves, discovery, ambiguity and versions.

Run it with ``python -m asyncstore demo``. Everything it prints is what the calls really answered.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path

from asyncstore import (
    AsyncRegistry,
    AsyncStore,
    AsyncStoreError,
    DiscoveryPolicy,
    StoreDiscoveryIncomplete,
)
from asyncstore.backends import MemoryBackend
from asyncstore.testing import SlowBackend


def say(text: str) -> None:
    """Print the heading of a step."""
    print(f"\n-- {text}")


async def discovery(store: AsyncStore) -> None:
    """Save in two places, and load by bare name."""
    say("save: writes name their mount")
    for key, value in {"a/model:resnet": {"acc": 0.92}, "b/model:vit": {"acc": 0.95}}.items():
        print(f"save({key!r})  ->  version {await store.save(key, value)}")

    say("load by bare name: every mount is asked at the same time")
    found = await store.load_record("model:vit")
    print(f"load('model:vit')  ->  {found.value}, found in mount {found.location!r}")
    print(f"locate('model:resnet')  ->  {await store.locate('model:resnet')}")


async def ambiguity(store: AsyncStore) -> None:
    """A name in two places is refused, never guessed."""
    say("a name in two mounts is refused")
    await store.save("a/shared:item", 1)
    await store.save("b/shared:item", 2)
    await refused(store.load("shared:item"))
    print(f"load('b/shared:item')  ->  {await store.load('b/shared:item')}")

    say("a write that does not say where is refused")
    await refused(store.save("model:new", {}))


async def versions(store: AsyncStore) -> None:
    """Every save is a new version; a deleted number is never used again."""
    say("versions: twenty tasks save the same name at once")
    saved = await asyncio.gather(*(store.save("a/counter", n) for n in range(20)))
    print(f"versions  ->  {min(saved, key=len)} ... 1.0.19, all different: {len(set(saved)) == 20}")
    pinned, latest = await store.load("counter@1.0.0"), await store.load("counter")
    print(f"load('counter@1.0.0')  ->  {pinned},  load('counter')  ->  {latest}")
    await store.delete("a/counter@1.0.19")
    print(f"1.0.19 deleted; the next save  ->  {await store.save('a/counter', 'next')}")
    await refused(store.save("a/counter@1.0.19", "again"))


async def silence(store: AsyncStore) -> None:
    """A mount that gives no answer is never taken for "not there"."""
    say("eight more mounts that take 100 ms to answer: asked together, they take 100 ms in all")
    for number in range(8):
        slow = SlowBackend(MemoryBackend(), 0.1)
        store.add_mount(f"slow{number}", AsyncRegistry(slow))
    await store.save("slow5/far:away", "found it")
    await store.load("far:away")
    began = time.perf_counter()
    value = await store.load("far:away")
    print(f"load('far:away') over 10 mounts  ->  {value!r} in {time.perf_counter() - began:.2f} s")

    say("a mount that never answers: no object is called missing because of it")
    hung = SlowBackend(MemoryBackend(), 0)
    hung.hang()
    store.add_mount("dead", AsyncRegistry(hung))
    began = time.perf_counter()
    try:
        await store.load("model:vit")
    except StoreDiscoveryIncomplete as error:
        print(f"StoreDiscoveryIncomplete after {time.perf_counter() - began:.2f} s")
        print(f"  found in {error.hits}, no answer from {list(error.errors)}")
    print(f"load('b/model:vit')  ->  {await store.load('b/model:vit')}  (only b is asked)")


async def refused(call: Awaitable[object]) -> None:
    """Await a call that must be refused, and print how."""
    try:
        await call
    except AsyncStoreError as error:
        print(f"{type(error).__name__}: {error}")
    else:
        raise AssertionError("this call should have been refused")


async def show(folder: Path) -> None:
    """The whole demonstration, in a folder that is thrown away afterwards."""
    async with AsyncStore(
        mounts={"a": AsyncRegistry(folder / "store_a"), "b": AsyncRegistry(folder / "store_b")},
        default_location="a",
        discovery=DiscoveryPolicy(probe_timeout=0.5),
    ) as store:
        await discovery(store)
        await ambiguity(store)
        await versions(store)
        await silence(store)
        print("\nEverything above ran on two directories; nothing is left of them.")


def main() -> None:
    """Run the demonstration."""
    with tempfile.TemporaryDirectory(prefix="asyncstore-demo-") as folder:
        asyncio.run(show(Path(folder)))


if __name__ == "__main__":
    main()
