"""What the tests of all materializers share."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from asyncstore import AsyncRegistry
from asyncstore.errors import MaterializationError
from asyncstore.materializers import Encoded, Materializer


def there_and_back(materializer: Materializer, obj: Any, as_type: type | None = None) -> Any:
    """What decoding makes of what encoding made, with the bytes as a registry hands them in."""
    return materializer.decode(stored(materializer.encode(obj)), as_type)


def stored(encoded: Encoded) -> Encoded:
    """The files as ``bytes``."""
    files = {name: bytes(data) for name, data in encoded.files.items()}
    return Encoded(files, encoded.params)


async def through_registry(obj: Any, as_type: type | None = None, **options: Any) -> Any:
    """What a registry gives back; twice, inline and as payload of its own."""
    async with AsyncRegistry("memory://", **options) as registry:
        await registry.save("obj", obj)
        first = await registry.load("obj", as_type=as_type)
    async with AsyncRegistry("memory://", inline_max=0, **options) as registry:
        await registry.save("obj", obj)
        await registry.load("obj", as_type=as_type, verify="full")
    return first


def damaged(data: bytes, *, tries: int = 60, seed: int = 1) -> Iterator[bytes]:
    """Bytes like these, but cut, lengthened, with bytes changed, or altogether others."""
    chance = random.Random(seed)
    yield from (b"", b"\0", data[:-1], data + b"\0", data[1:], data[: len(data) // 2], data * 2)
    for _ in range(tries):
        changed = bytearray(data)
        for _ in range(chance.randint(1, 8)):
            if changed:
                changed[chance.randrange(len(changed))] = chance.randrange(256)
        yield bytes(changed)
        yield chance.randbytes(chance.randrange(200))


def no_other_error(
    materializer: Materializer, encoded: Encoded, as_type: type | None = None, *, tries: int = 60
) -> None:
    """Decoding damaged files gives an object or MaterializationError, and nothing else."""
    whole: Mapping[str, Any] = stored(encoded).files
    for name, data in whole.items():
        for other in damaged(data, tries=tries):
            try:
                materializer.decode(Encoded({**whole, name: other}, encoded.params), as_type)
            except MaterializationError as error:
                message = str(error)
                if len(message) > 1500:
                    pytest.fail(f"hostile bytes make a long message: {message}")
    for files in ({}, {"other": b""}, {**whole, "other": b""}):
        with pytest.raises(MaterializationError):
            materializer.decode(Encoded(files, encoded.params), as_type)


def run_python(script: str) -> str:
    """What a fresh interpreter prints."""
    run = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()
