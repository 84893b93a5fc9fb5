"""Hostile records: every field lies, but the envelope is right, as of one who may write there."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from asyncstore.digests import CHUNK_SIZE, combined_hash
from tests.rigs.hostile.case import (
    KEY,
    NAME,
    OTHER,
    PAYLOAD,
    TRAPS,
    Case,
    Tree,
    genuine,
    header_text,
    refit,
    sealed,
    spoilt,
)

NUMBERS: list[Any] = [
    *(-1, 0, 1, 2, 7, 255, 2**31, 2**62, 2**63 - 1, 2**63, 2**64, 10**30, -(10**30), 0.5, 1e300),
    *(-0.0, True, False, None, "1", "", [], {}, [1], float("nan"), float("inf"), CHUNK_SIZE),
]
ANY: list[Any] = [*NUMBERS, "a", "\0", "\ud800", "é" * 500, {"a": {"b": []}}, [[[]]], [None], "$x"]
PATHS = [
    *("../x", "/etc/passwd", "a\0b", "C:\\x", "C:x", "C:/x", "..", ".", "a/../../b", "./a", "a//b"),
    *("a/", "/", "", "\\\\host\\share", "..\\x", "a\\b", "~/x", "~root/x", "$HOME/x", "%2e%2e/x"),
    *("file:///etc/passwd", "//host/share", "a/./b", "x\n", "a/\x7f", "\ud800"),
    *("e\u0301", "\u212b"),
    *("con", "nul.txt", "aux/x", "x:y", "ab:$DATA", "a" * 300, "a/" * 300 + "b", "a" * 1025),
    *("..%2fx", "．．/x", "\u2025/x", "‥/x", "a/..", "...", "..a", ".asyncstore-0000", "l/../x"),
    *("canary/secret.txt", "link/x", "link", "plain", "data.bin", "模" * 342, "a\u202e/x"),
    *(" ", "-rf"),
]
TWINS = [
    *(("a", "A"), ("é", "É"), ("é", "e\u0301"), ("straße", "STRASSE"), ("a", "a/b"), ("A", "a/b")),
    *(("a/b", "a"), ("a", "a"), ("ﬁ", "FI"), ("a/B", "A/b"), ("K", "K"), ("ς", "Σ"), ("a", "a/")),
]
IDS = [
    *("os:system", "os.system", "builtins.eval", "subprocess:run", "pickle", "cloudpickle", "dill"),
    *("joblib", *TRAPS, f"{TRAPS[0]}:Trap", f"{TRAPS[1]}:Trap", "", "path", "json", "str", "numpy"),
    *("enum", "dataclass", "pydantic", "msgspec", "torch", "pillow", "pandas"),
    *("../bytes", "bytes\0"),
    *("BYTES", "bytes ", "\u202ebytes", "x" * 100_000),
    *("asyncstore.materializers.pickled", "\ud800"),
]
TAGS: list[Any] = [
    {"$zoneinfo": "../../../../etc/passwd"}, {"$zoneinfo": "/etc/passwd"}, {"$zoneinfo": "a.b/c"},
    {"$zoneinfo": TRAPS[0]}, {"$int": "f" * 100_000}, {"$int": "-0"}, {"$float": "7ff"},
    {"$decimal": "1E+999999999"}, {"$decimal": "9" * 100_000}, {"$dict": [[["a"], 1]]},
    {"$dict": [[1, 2], [1, 3]]}, {"$set": [[]]}, {"$set": [1, 1]}, {"$bytes": "%%"},
    {"$pickle": "x"},
    {"$dataclass": [TRAPS[0] + ":Trap", {}]}, {"$enum": ["os:system", "x"]}, {"$": 1},
    {"$str": "/w=="},
    {"$set": [n * (2**61 - 1) for n in range(300)]}, {"$timedelta": [10**30, 0, 0]},
    {"$date": "9999-99-99"}, {"$datetime": ["2020-01-01T00:00:00", 7, None]}, {"$uuid": ["x", "y"]},
    {"$timezone": [{"$timedelta": [9, 0, 0]}]}, {"$tuple": {"$tuple": []}}, {"$complex": [1, 2]},
]  # fmt: skip
BROKEN = [
    *(b"", b"{", b"}", b"null", b"[]", b"0", b'""', b"NaN", b"\xff\xfe{}"),
    *(b"\xef\xbb\xbf{}", b"{}x"),
    *(b"[" * 5_000, b'{"a":' * 5_000, b'{"features":' + b"[" * 60_000),
    *(b'{"asv":1e999}', b"\0" * 300),
    *(b'{"metadata":' + b"9" * 10_000 + b"}", b'{"name":"\\ud800"}', b'{"name":"\xff"}', b"{,}"),
    *('{"asv":1}'.encode("utf-16"), b'{"files":{}}', b'{"min_reader":1,"min_reader":99}', b"//x"),
]
DIGESTS: list[Any] = [
    "",
    "0" * 64,
    "A" * 64,
    "0" * 63,
    "0" * 64 + "\n",
    "é" * 64,
    None,
    7,
    ["0" * 64],
]

Change = Callable[[random.Random, Tree], None]


def _file(chance: random.Random, tree: Tree) -> Tree:
    files = tree["files"]
    if isinstance(files, list) and files:
        found = chance.choice(files)
        if isinstance(found, dict):
            return found
    return {}


def bad_path(chance: random.Random, tree: Tree) -> None:
    """A path that leads out, is nothing on some system, or clashes with what is planted."""
    parts = chance.choices(PATHS, k=chance.choice([1, 1, 1, 2, 3]))
    _file(chance, tree)["p"] = "/".join(parts)


def twins(chance: random.Random, tree: Tree) -> None:
    """Two files in one place, here or on other systems; a file that is a folder as well."""
    one, other = chance.choice(TWINS)
    file = _file(chance, tree)
    file["p"] = one
    if chance.random() < 0.3:
        tree["dirs"] = [other]
    elif isinstance(tree["files"], list):
        tree["files"].append({**file, "p": other})


def bad_dirs(chance: random.Random, tree: Tree) -> None:
    """Empty folders where there should be none."""
    tree["dirs"] = chance.choice([chance.choices(PATHS, k=3), chance.choice(ANY), ["a"] * 3, [3]])


def bad_number(chance: random.Random, tree: Tree) -> None:
    """A size, offset, index or chunk size that lies."""
    _file(chance, tree)[chance.choice("nobis")] = chance.choice(NUMBERS)


def bad_place(chance: random.Random, tree: Tree) -> None:
    """Bytes that are somewhere else: in another object, beyond the end, under a path."""
    file = _file(chance, tree)
    place: list[Tree] = [
        {"b": 0}, {"b": 1, "o": 3}, {"b": 99_999}, {"b": 0, "o": 2**63 - 1}, {"i": 1}, {"i": 0},
        {"b": f"../{OTHER}/0"}, {"b": "/etc/passwd"}, {"b": "0"}, {"b": 0, "i": 0}, {},
        {"b": 2**64},
    ]  # fmt: skip
    for key in "iob":
        file.pop(key, None)
    file.update(chance.choice(place))


def bad_digest(chance: random.Random, tree: Tree) -> None:
    """A hash that is none, or of something else."""
    _file(chance, tree)[chance.choice("hhc")] = chance.choice(DIGESTS)


def bad_chunks(chance: random.Random, tree: Tree) -> None:
    """A table of chunks that does not fit, that overlaps, or is huge; its hash fits."""
    count = chance.choice([1, 2, 3, 64] if chance.random() < 0.9 else [4096, 4097])
    table = [f"{chance.getrandbits(256):064x}"] * count
    size = CHUNK_SIZE * chance.choice([1, 1, 2, 3, 2**20, 2**39])
    total = chance.choice([size * count, size * (count - 1) + 1, size * count + 1, 5, 2**62])
    file = _file(chance, tree)
    file.update(c="".join(table), s=size, n=total, h=combined_hash(table))
    if chance.random() < 0.8:
        file.pop("i", None)
        file.update(b=0, o=chance.choice([0, 0, 1, 2**62]))


def bad_id(chance: random.Random, tree: Tree) -> None:
    """A materializer or class that names code."""
    tree[chance.choice(["materializer", "materializer", "class"])] = chance.choice(IDS)
    tree["params"] = chance.choice([{}, {"class": chance.choice(IDS)}, {"kind": "file"}])


def bad_identity(chance: random.Random, tree: Tree) -> None:
    """The record of something else."""
    key = chance.choice(["name", "version"])
    others = {
        "name": ["y", "X", "../x", "", "x\0", "x@1"],
        "version": ["1.0.1", "1", "v1.0.0", "-1"],
    }
    tree[key] = chance.choice([*others[key], *ANY])


def bad_values(chance: random.Random, tree: Tree) -> None:
    """Metadata and parameters that are deep, or are tags that decode to trouble."""
    inner: Any = chance.choice(TAGS + ANY)
    for _ in range(chance.choice([0, 0, 1, 15, 70, 400])):
        inner = [inner] if chance.random() < 0.5 else {"a": inner}
    tree[chance.choice(["metadata", "params"])] = {"a": inner} if chance.random() < 0.8 else inner


def bad_times(chance: random.Random, tree: Tree) -> None:
    """Times that are none, and trash that is no commit."""
    tree[chance.choice(["created", "committed"])] = chance.choice(
        ["", "now", "9999-12-31", "\0", 3]
    )
    tree["trash"] = chance.choice([[], [["../..", 1]], [["a" * 32, -1]], [[OTHER, 2**70]], 3, [[]]])


def bad_promise(chance: random.Random, tree: Tree) -> None:
    """Of a newer format, or of none."""
    tree[chance.choice(["asv", "min_reader", "features"])] = chance.choice([2, 99, ["x"], *ANY])


def bad_field(chance: random.Random, tree: Tree) -> None:
    """Any field anything, or gone."""
    where = chance.choice([tree, _file(chance, tree)])
    if where:
        key = chance.choice(list(where))
        if chance.random() < 0.3:
            del where[key]
        else:
            where[key] = chance.choice(ANY)
    tree.setdefault("files", [])


def many_files(chance: random.Random, tree: Tree) -> None:
    """Many files of the same bytes, or many empty ones: what small records may unfold to."""
    file = _file(chance, tree) or {}
    count = chance.choice([20, 200])
    empty = {**file, "n": 0} if chance.random() < 0.5 else file
    tree["files"] = [{**empty, "p": f"{number}/{chance.choice(PATHS)}"} for number in range(count)]


CHANGES: list[Change] = [
    *(bad_path, bad_path, bad_path, twins, bad_dirs, bad_number, bad_number, bad_place, bad_digest),
    *(bad_chunks, bad_chunks, bad_id, bad_id, bad_identity, bad_values, bad_times, bad_promise),
    *(bad_field, bad_field),
]
CONTENTS = [
    {"data.bin": b"harmless"},
    {"data.bin": b"one", "link": b"two", "sub/three": b""},
    {"plain": b"one file"},
]


def hostile_record(chance: random.Random) -> Case:
    """A genuine record with one to three fields that lie, sealed again."""
    payload = chance.random() < 0.4
    contents = chance.choice(CONTENTS)
    as_path = chance.random() < 0.5
    tree, objects, inline = genuine(contents, payload=payload)
    if as_path:
        kind = "file" if len(contents) == 1 else "folder"
        tree.update(materializer="path", params={"kind": kind, "name": chance.choice(PATHS)})
    changes = [chance.choice(CHANGES) for _ in range(chance.choice([1, 1, 1, 2, 3]))]
    if chance.random() < 0.002:
        changes.append(many_files)
    for change in changes:
        change(chance, tree)
    if chance.random() < 0.8:
        refit(tree)
    header = header_text(tree)
    if chance.random() < 0.05:  # of keys that are there twice, the last one counts
        header = b'{"files":[],"name":"y","min_reader":9,' + header[1:]
    objects[KEY] = sealed(header, inline)
    objects[f"d/{NAME}/{OTHER}/0"] = b"what another commit holds"
    return Case(changes[0].__name__, objects, taken=chance.choice(TAKEN))


TAKEN = ["nothing", "nothing", "links", "file", "empty"]


def broken_record(chance: random.Random) -> Case:
    """Bytes that are hardly a record: torn, of another kind, of another length."""
    tree, objects, inline = genuine({"data.bin": b"harmless"}, payload=chance.random() < 0.3)
    header = header_text(tree)
    whole = sealed(header, inline)
    how = chance.randrange(8)
    if how == 0:
        data = sealed(chance.choice(BROKEN), inline, pad=chance.random() < 0.7)
    elif how == 1:
        data = spoilt(chance, whole)
    elif how == 2:
        data = sealed(spoilt(chance, header), inline)
    elif how == 3:
        data = sealed(header, inline, kind=chance.choice("DXld "))
    elif how == 4:
        data = sealed(b"", bytes(chance.randrange(90)), kind=chance.choice("LD"), pad=False)
    elif how == 5:
        data = whole[: chance.choice([0, 1, 100, 179, 180, 181, 255, 256, 300])]
    elif how == 6:
        data = chance.choice([b"asv2 ", b"asv999 ", b"asv1 ", b"", b"\0"]) + whole[5:]
    else:
        data = sealed(header, inline, commit=chance.choice(["A" * 32, "../" * 10 + "xx", "g" * 32]))
    return Case("broken", {**objects, KEY: data})


def misplaced_record(chance: random.Random) -> Case:
    """Genuine records under keys of other names and versions, and keys that are none of ours."""
    tree, objects, inline = genuine({"data.bin": b"harmless"})
    keys = [
        *("m/y/z8z9z9_1.0.0", f"m/{NAME}/z8z9z8_1.0.1", f"m/{NAME}/z8z9z9_9.9.9", "m/z8z9z9_1.0.0"),
        *(f"m/{NAME}/below/z8z9z9_1.0.0", f"m/{NAME}/readme", "m/!2e!2e/z8z9z9_1.0.0", "m/x",
          f"d/{NAME}"),
        *(f"m/a!!{'0' * 48}/z8z9z9_1.0.0", "m/%2e%2e/z8z9z9_1.0.0", "m/(ff)/z8z9z9_1.0.0",
          "g/x/y/_"),
        *("m/con/z8z9z9_1.0.0", f"{PAYLOAD}/0/0", "g/x", "m/\udcff/z8z9z9_1.0.0",
          f"m/{'a' * 200}/x"),
    ]  # fmt: skip
    if chance.random() < 0.5:
        tree["name"] = chance.choice(["y", "x", "..", "a" * 900, "\u202e", "x\0", "a@1"])
    data = sealed(header_text(tree), inline)
    placed = dict.fromkeys(chance.sample(keys, 3), data)
    if chance.random() < 0.5:
        placed[KEY] = sealed(header_text(genuine({"data.bin": b"harmless"})[0]), inline)
    return Case("misplaced", {**objects, **placed})
