"""Hostile contents: records whose every hash is right, around files that are out to do harm."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
from PIL import Image

from asyncstore.materializers import Encoded, default_materializers
from asyncstore.materializers.values import encode_value
from tests.materializers.support import NESTED_BOMB
from tests.rigs.hostile.caller import Color, Model, Point, Struct
from tests.rigs.hostile.case import KEY, TRAPS, Case, genuine, header_text, sealed, spoilt
from tests.rigs.hostile.records import ANY, BROKEN, NUMBERS, TAGS

Files = dict[str, bytes]


OBJECTS: dict[str, Any] = {
    "json": {"a": [1, (2, 3)], "b": {1.5}},
    "str": "text",
    "numpy": np.arange(12, dtype="<i4").reshape(3, 4),
    "numpy-dict": {"a": np.arange(3), 7: np.zeros((2, 2))},
    "pandas": pd.DataFrame({
        "n": [1, 2], "t": ["a", None], "o": pd.Series([(1,), "x"], dtype=object),
        "c": pd.Categorical(["u", "v"]), "w": pd.to_datetime(["2020", None]).tz_localize("UTC"),
    }),
    "polars": pl.DataFrame({"n": [1, 2], "t": ["a", None], "l": [[1], []]}),
    "pyarrow": pa.table({"n": [1, 2], "t": ["a", None], "l": [[1], []]}),
    "pillow": Image.new("RGB", (5, 4)),
    "dataclass": Point(3, Color.RED),
    "enum": Color.RED,
    "pydantic": Model(x=3, rest={"a": [1]}),
    "msgspec": Struct(x=3, rest={"a": [1]}),
}  # fmt: skip
AS_TYPE: dict[str, type] = {
    "dataclass": Point, "enum": Color, "pydantic": Model, "msgspec": Struct,
}  # fmt: skip


def _stored(encoded: Encoded) -> tuple[Files, dict[str, Any]]:
    return {path: bytes(data) for path, data in encoded.files.items()}, dict(encoded.params)


GENUINE = {
    id: _stored(default_materializers().by_id(id).encode(obj)) for id, obj in OBJECTS.items()
}


def mark_of(world: Path) -> str:
    """The folder that a canary makes when it is run."""
    return str(world / "canary" / "FIRED")


def pickles(world: Path) -> list[bytes]:
    """Pickles that leave the mark when they are loaded, by several roads."""
    mark = mark_of(world)
    return [
        b"cos\nmkdir\n(V%s\ntR." % mark.encode(),
        b"\x80\x04\x8c\x02os\x8c\x05mkdir\x93\x8c" + bytes([len(mark)]) + mark.encode() + b"\x85R.",
        b"c%s\nTrap\n(tR." % TRAPS[0].encode(),
        b"cbuiltins\nexec\n(V__import__('os').mkdir('%s')\ntR." % mark.encode(),
    ]


# -- NumPy


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """A .npy file of any header."""
    text = header.encode("latin-1", "replace")
    size = (
        struct.pack("<H", len(text) % 65536) if version == (1, 0) else struct.pack("<I", len(text))
    )
    return b"\x93NUMPY" + bytes(version) + size + text + data


def _npy(chance: random.Random, world: Path) -> bytes:
    descr = chance.choice([
        "'<i4'", "'|O'", "[('a','O')]", "'V0'", "'S0'", "'<M8[ns]'", "'T'", "('<f8',(0,))", "[]",
        "[('a','<i4'),('a','<i4')]", "'V2147483647'", "__import__('os').system('true')", "'<i4'*99",
        "{'names':['a'],'formats':['O'],'offsets':[0]}", "('<i4',(2**40,))", f"'{TRAPS[0]}'",
        "'<,'",
        "[('" + "a" * 9000 + "','<i4')]", "[" * 90 + "]" * 90, "-" * 300 + "1", "lambda: 1",
        "'<U9999'",
    ])  # fmt: skip
    shape = chance.choice([
        "(3,)", "()", "(-1,)", "(10**12,)", "(1000000000000,)", "(2,)*70", "(0,)", "[3]", "(True,)",
        "(0, 99999999999999999999)", "('3',)", "(3,4)", "(1.5,)", "(4611686018427387904, 4)", "3",
    ])  # fmt: skip
    order = chance.choice(["False", "True", "7"])
    fields = f"'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}"
    header = chance.choice(
        ["{" + fields + "}", "{" + fields + ", }", fields, "{" * 500, "(" * 9_000]
    )
    data = chance.choice([b"", bytes(12), bytes(24), *pickles(world)])
    version = chance.choice([(1, 0), (1, 0), (2, 0), (3, 0), (9, 9)])
    return npy(header + "\n", data, version)


def _zip(chance: random.Random, world: Path) -> bytes:
    """What .npz archives are: with members that lead out, bombs, and pickles."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            chance.choice(["../../x.npy", "/etc/x.npy", "a.npy", "C:\\x"]), bytes(2**20)
        )
        archive.writestr("b.npy", npy("{'descr': '|O', 'shape': (1,), 'fortran_order': False}",
                                      chance.choice(pickles(world))))  # fmt: skip
    return buffer.getvalue()


# -- images


def chunk(kind: bytes, body: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


ZEROS = zlib.compress(bytes(2**22), 9)


def _size(chance: random.Random) -> tuple[int, int]:
    sides = [0, 1, 3, 5, 4, 9_000, 50_000, 2**31 - 1, 2**32 - 1]
    return (chance.choice(sides), chance.choice(sides))


def _png(chance: random.Random, world: Path) -> bytes:
    def head(width: int, height: int) -> bytes:
        depth, color = chance.choice([(8, 2), (8, 0), (1, 3), (16, 0), (9, 9)])
        return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0))

    extra = chance.choice([
        b"", head(*_size(chance)), chunk(b"zTXt", b"a\0\0" + ZEROS),
        chunk(b"iCCP", b"a\0\0" + ZEROS), chunk(b"iTXt", b"a\0\1\0\0\0" + ZEROS),
        chunk(b"eXIf", b"II*\0" + b"\xff" * 40), chunk(b"IDAT", b""),
        chunk(b"acTL", struct.pack(">II", 2**31, 0)), chunk(b"PLTE", bytes(9_000)), b"\xff" * 12,
        chunk(b"fcTL", bytes(26)), chunk(b"tRNS", bytes(300)), chunk(b"IHDR", b""),
    ])  # fmt: skip
    size = chance.choice([(5, 4), (5, 4), _size(chance)])
    pixels = chance.choice([ZEROS, zlib.compress(bytes(64)), b"", chance.randbytes(40)])
    ends = chunk(b"IDAT", pixels) + chance.choice([chunk(b"IEND", b""), b""])
    return b"\x89PNG\r\n\x1a\n" + head(*size) + extra + ends


def _other_image(chance: random.Random, world: Path) -> bytes:
    ghost = f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 4\n({mark_of(world)}) (w) file".encode()
    return chance.choice([
        ghost, b"GIF89a" + struct.pack("<HH", 5, 4) + bytes(9), b"BM" + bytes(60),
        b"II*\0" + bytes(90), b"RIFF\x10\0\0\0WEBPVP8 ", b"\xff\xd8\xff\xe0" + bytes(30),
    ])  # fmt: skip


# -- tables


def _parquet_of(table: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pa.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def _typed(name: str, about: bytes) -> bytes:
    """A column of an extension type, which a careless reader makes by what is stored of it."""
    marks = {b"ARROW:extension:name": name.encode(), b"ARROW:extension:metadata": about}
    field = pa.field("n", pa.binary(), metadata=marks)
    return _parquet_of(pa.table([pa.array([b"x"])], schema=pa.schema([field])))


def tables(world: Path) -> list[bytes]:
    """Parquet files that are bombs or name code; made once, as making them takes its time."""
    import pyarrow.parquet  # noqa: F401  # pa.parquet is there once it has been imported

    trap = f"{TRAPS[0]}.Trap"
    made = [_typed("arrow.py_extension_type", one) for one in pickles(world)]
    made += [_typed(name, b"{}") for name in ("pandas.period", "arrow.json", "arrow.uuid", trap)]
    about = json.dumps({"index_columns": [], "columns": [{"name": trap, "pandas_type": trap}]})
    noted = pa.table({"n": [1]}).replace_schema_metadata({"pandas": about, "ARROW:schema": b"//8="})
    return [*made, _parquet_of(noted), b"PAR1" + bytes(40) + b"PAR1", b"ARROW1\0\0" + bytes(60)]


# -- tensors


def _safetensors(chance: random.Random, world: Path) -> bytes:
    tensor = {
        "dtype": chance.choice(["F32", "O", "I64", TRAPS[0], *NUMBERS]),
        "shape": chance.choice([[2], [-1], [2**40, 2**40], [], 3, ["2"]]),
        "data_offsets": chance.choice([[0, 8], [8, 0], [0, 2**63], [-8, 0], [4, 12], [0]]),
    }
    header = json.dumps({"a": tensor, "b": tensor, "__metadata__": {"format": "pt"}}).encode()
    size = chance.choice([len(header), len(header), 2**63, 0, 100_000_001])
    return struct.pack("<Q", size) + header + bytes(8)


# -- values


def _value(chance: random.Random, world: Path) -> bytes:
    inner: Any = chance.choice(TAGS + ANY)
    for _ in range(chance.choice([0, 1, 5, 99, 101, 400])):
        inner = [inner] if chance.random() < 0.5 else {"a": inner}
    about = {"kind": "frame", "rows": 2, "data": [inner], "columns": inner, "index": inner}
    whole = chance.choice([inner, inner, about, {"mode": "RGB", "size": inner, "info": inner}])
    broken = chance.choice(BROKEN)
    return chance.choice([json.dumps(whole).encode(), json.dumps(whole).encode(), broken])


def _pickle(chance: random.Random, world: Path) -> bytes:
    return chance.choice(pickles(world))


def _msgpack(chance: random.Random, world: Path) -> bytes:
    return chance.choice([
        b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 5_000,
        b"\xc9\xff\xff\xff\xff\x01", b"\xd4\x01x", msgspec.msgpack.encode({"x": "y"}), b"\xc1",
        msgspec.msgpack.encode({"x": 2**63, "rest": {"a": [[]]}}), msgspec.msgpack.encode(TRAPS),
    ])  # fmt: skip


Maker = Callable[[random.Random, Path], bytes]

MAKERS: dict[str, list[Maker]] = {
    "data.npy": [_npy, _npy, _zip, _pickle], "0.npy": [_npy, _zip, _pickle],
    "data.png": [_png, _png, _png, _other_image], "data.msgpack": [_msgpack],
    "data.parquet": [_pickle], "data.txt": [_pickle],
}  # fmt: skip
WEIGHTS = {
    "json": 20, "str": 4, "numpy": 30, "numpy-dict": 10, "pandas": 5, "polars": 4, "pyarrow": 4,
    "pillow": 14, "dataclass": 8, "enum": 4, "pydantic": 6, "msgspec": 8, "torch": 3, "pickle": 4,
    "cloudpickle": 2, "bytes": 2,
}  # fmt: skip


class Archives:
    """Makes cases of objects of every materializer."""

    def __init__(self, world: Path) -> None:
        self._world = world
        self._tables = tables(world)

    def hostile_archive(self, chance: random.Random) -> Case:
        """An object one or more of whose files are not what its materializer writes."""
        id = chance.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        files, params = self._genuine(chance, id)
        for path in chance.sample(list(files), chance.choice([1, 1, len(files)])):
            files[path] = self._contents(chance, id, path, files[path])
        if chance.random() < 0.1:
            files = {**files, chance.choice(["more", "1.npy", "objects-0.json", "a/b"]): b"more"}
        if chance.random() < 0.1:
            files.pop(chance.choice(list(files)))
        if chance.random() < 0.2:
            params = chance.choice([{}, {"scalar": True}, {"series": True}, {"class": TRAPS[0]},
                                    {"class": "os.system"}, {"scalar": [[]]}])  # fmt: skip
        tree, objects, inline = genuine(
            files, payload=chance.random() < 0.3, materializer=id, params=params
        )
        asked = AS_TYPE.get(id) if chance.random() < 0.8 else chance.choice([None, dict, Point])
        return Case(id, {**objects, KEY: sealed(header_text(tree), inline)}, as_type=asked)

    def _genuine(self, chance: random.Random, id: str) -> tuple[Files, dict[str, Any]]:
        if id in ("pickle", "cloudpickle"):
            return {"data.pkl": _pickle(chance, self._world)}, {}
        if id == "torch":
            rest = {"kind": "dict", "tensors": [("a", "b")], "versions": chance.choice(ANY[:4])}
            return {"data.safetensors": b"", "tensors.json": encode_value(rest)}, {}
        if id == "bytes":
            return {"data.bin": b"x"}, {}
        files, params = GENUINE[id]
        return dict(files), params

    def _contents(self, chance: random.Random, id: str, path: str, data: bytes) -> bytes:
        if path == "data.pkl":
            return data
        if path == "data.safetensors":
            return _safetensors(chance, self._world)
        how = chance.random()
        if how < 0.35:
            return spoilt(chance, data)
        if path == "data.parquet" and how < 0.9:
            # Polars does not tell how many items a row has before it reads them.
            return chance.choice(self._tables if id == "polars" else [*self._tables, NESTED_BOMB])
        if path.endswith(".json"):
            return _value(chance, self._world)
        return chance.choice(MAKERS.get(path, [_pickle]))(chance, self._world)
