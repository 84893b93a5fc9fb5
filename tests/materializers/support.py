"""What the tests of all materializers share."""

from __future__ import annotations

import base64
import random
import subprocess
import sys
import textwrap
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from asyncstore import AsyncRegistry
from asyncstore.errors import MaterializationError
from asyncstore.materializers import Encoded, Materializer

NESTED_BOMB = zlib.decompress(base64.b85decode("""
c-jka3^EjD5oHh+@&OVILJSNVTlN1cFfcLzd7^rv4mzR@9ryMziVBFbiL%L<fjJCNRpL7t7&w3&=6@gBfx?Vz
KsHzb6N4y=q>m|s1Y2=(Mrv-NC=-JzlLRA>7G?9X0je@(kzmQmEG_{`h%%`%NwBBpq~@mPm8i=3tP$oA1ga2Y
l9Z8@QDcx1Ws)>yU=xtEU`zySfhiT`5d+&L*1{;Zf>F&(jRWR7Ngc3{m_R-d08%!ZYE1t?4wQ6*x{m>50Z<>4
8V67>gN8yuVo_mfYKd-gL4j^!QBi)mLRo52ab|v=f{~e?fu5nHj0{lARUi%k1{eTl3q_s
""".replace("\n", "")))  # fmt: skip
"""Parquet: 309 bytes with one row, whose one list holds 200 million nulls."""


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
