"""The value codec: whatever it takes comes back equal and of the same types, or is refused."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import json
import math
import random
import re
import struct
import sys
import threading
import time
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Context, Decimal, localcontext
from enum import IntEnum
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import UUID, SafeUUID, uuid1
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncstore.errors import MaterializationError
from asyncstore.materializers.values import (
    MAX_NESTING,
    MAX_TREE_NESTING,
    SUPPORTED,
    decode_value,
    encode_value,
    from_tree,
    is_large,
    to_tree,
)

BERLIN = ZoneInfo("Europe/Berlin")
ZONES = [
    None,
    dt.UTC,
    dt.timezone(dt.timedelta(0), "UTC"),
    dt.timezone(dt.timedelta(hours=1)),
    dt.timezone(dt.timedelta(seconds=-3599, microseconds=7), "\u00e9\ud800\udc00"),
    BERLIN,
    ZoneInfo("America/New_York"),
    ZoneInfo("UTC"),
]


def same(left: Any, right: Any) -> bool:
    """Equal and of the same types all the way down, with everything that ``==`` does not see."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return struct.pack("d", left) == struct.pack("d", right)
    if isinstance(left, complex):
        return same(left.real, right.real) and same(left.imag, right.imag)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, (set, frozenset)):
        return same(sorted(left, key=encode_value), sorted(right, key=encode_value))
    if isinstance(left, (dt.datetime, dt.time)):
        wall = left.replace(tzinfo=None) == right.replace(tzinfo=None) and left.fold == right.fold
        return wall and same_zone(left.tzinfo, right.tzinfo) and left == right
    if isinstance(left, dt.tzinfo):
        return same_zone(left, right)
    if isinstance(left, Decimal):
        return left.as_tuple() == right.as_tuple()
    if isinstance(left, UUID):
        return left == right and left.is_safe is right.is_safe
    return bool(left == right)


def same_zone(left: dt.tzinfo | None, right: dt.tzinfo | None) -> bool:
    return left is right or (type(left) is dt.timezone and repr(left) == repr(right))


def comes_back(value: Any) -> bool:
    return same(decode_value(encode_value(value)), value)


def floats() -> st.SearchStrategy[float]:
    from_bits = st.integers(0, 2**64 - 1).map(lambda n: struct.unpack("d", struct.pack("Q", n))[0])
    special = [math.nan, -math.nan, math.inf, -math.inf, -0.0, 5e-324, 1e16]
    return st.sampled_from(special) | from_bits | st.floats()


TEXT = st.text(st.characters() | st.characters(categories=["Cs"]), max_size=4) | st.sampled_from(
    ["", "$", "$tuple", "\ud800\udc00", "\udc00\ud800", "a.b", '"$', "\\", "\\u0024"]
)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3) | st.integers() | st.sampled_from([2**63, 2**63 - 1, -(2**63), -(2**64)]),
    floats(),
    st.builds(complex, floats(), floats()),
    TEXT,
    st.binary(max_size=4),
    st.dates(),
    st.builds(
        dt.datetime.replace,
        st.datetimes(),
        fold=st.integers(0, 1),
        tzinfo=st.sampled_from(ZONES),
    ),
    st.builds(dt.time.replace, st.times(), fold=st.integers(0, 1), tzinfo=st.sampled_from(ZONES)),
    st.timedeltas(),
    st.decimals().filter(lambda number: not number.is_snan())
    | st.sampled_from([Decimal("1E+5"), Decimal("-0E-9"), Decimal("NaN12")]),
    st.uuids() | st.builds(UUID, int=st.just(7), is_safe=st.sampled_from(SafeUUID)),
    st.sampled_from([zone for zone in ZONES if zone is not None]),
)
HASHABLE = st.recursive(
    ATOMS,
    lambda inner: st.lists(inner, max_size=2).map(tuple) | st.frozensets(inner, max_size=2),
    max_leaves=3,
)
VALUES = st.recursive(
    ATOMS | st.binary(max_size=4).map(bytearray) | st.just(Decimal("sNaN3")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(TEXT, inner, max_size=3),
        st.dictionaries(HASHABLE, inner, max_size=2),
        st.sets(HASHABLE, max_size=2),
        st.frozensets(HASHABLE, max_size=2),
    ),
    max_leaves=6,
)
MANY = settings(max_examples=10_000, deadline=None, suppress_health_check=list(HealthCheck))
SOME = settings(max_examples=1_000, deadline=None, suppress_health_check=list(HealthCheck))


@MANY
@given(VALUES)
def test_l12_containers_come_back_the_same_or_are_refused(value: Any) -> None:
    data = encode_value(value)
    assert data.isascii()
    assert same(decode_value(data), value)
    assert encode_value(decode_value(data)) == data


@SOME
@given(st.dictionaries(TEXT, VALUES, max_size=4))
def test_l12_metadata_comes_back_the_same_through_json(value: Any) -> None:
    text = json.dumps(to_tree(value), allow_nan=False)
    assert same(from_tree(json.loads(text)), value)


def test_the_comparison_of_these_tests_can_tell_things_apart() -> None:
    pairs: list[tuple[Any, Any]] = [
        (1, True),
        (1, 1.0),
        (0.0, -0.0),
        (math.nan, -math.nan),
        ([1], (1,)),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({1}, frozenset({1})),
        ({1}, {True}),
        (dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, fold=1)),
        (dt.time(1, tzinfo=dt.UTC), dt.time(1, tzinfo=ZONES[2])),
        (Decimal("1.0"), Decimal("1.00")),
        (UUID(int=1), UUID(int=1, is_safe=SafeUUID.safe)),
    ]
    assert not [pair for pair in pairs if same(*pair)]


@pytest.mark.parametrize(
    "value",
    [
        10**5000,
        -(10**5000),
        {10**5000: 1},
        2**63,
        -(2**63) - 1,
        Decimal(10) ** 5000,
        Decimal("1E-999999"),
        Decimal("-sNaN123"),
        dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=23))),
        dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN),
        dt.datetime(2024, 3, 31, 2, 30, tzinfo=BERLIN),  # in the gap, where zones compare unequal
        dt.timedelta.min,
        dt.timedelta.max,
        "\ud800\udc00",
        {"\ud800\udc00": 1, "\U00010000": 2},
        {"$tuple": [1]},
        {"$dict": []},
        {"a": {"$": 1}, "$b": 2},
        {1: "a", "1": "b", None: "c", (): "d"},
        {math.nan, float("nan")},
        frozenset({frozenset(), frozenset({frozenset()})}),
        {},
        (),
        set(),
        b"\x00\xff",
        uuid1(),
        [[1] * 20, [1.5] * 20, ["a"] * 20, [True] * 20, [None] * 20],
        [1, True, 1.0] * 10,
        [2**63] * 20,
        [math.nan] * 20,
        ["\ud800\udc00"] * 20,
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_values_come_back(value: Any) -> None:
    assert comes_back(value)
    assert same(from_tree(to_tree({"k": value})), {"k": value})


STORED: list[tuple[Any, bytes]] = [
    ({"a": [1, 1.5, True, None, "\u00e9"]}, b'{"a":[1,1.5,true,null,"\\u00e9"]}'),
    ((1,), b'{"$tuple":[1]}'),
    ({1: 2}, b'{"$dict":[[1,2]]}'),
    ({2, 1}, b'{"$set":[1,2]}'),
    (frozenset("a"), b'{"$frozenset":["a"]}'),
    (2**63 - 1, b"9223372036854775807"),
    (2**63, b'{"$int":"8000000000000000"}'),
    (-(2**63) - 1, b'{"$int":"-8000000000000001"}'),
    (math.inf, b'{"$float":"7ff0000000000000"}'),
    (1 - 2j, b'{"$complex":[1.0,-2.0]}'),
    ("\ud800\udc00", b'{"$str":"7aCA7bCA"}'),
    (b"a", b'{"$bytes":"YQ=="}'),
    (bytearray(b"a"), b'{"$bytearray":"YQ=="}'),
    (dt.date(2024, 1, 2), b'{"$date":"2024-01-02"}'),
    (
        dt.datetime(2024, 1, 2, 3, fold=1, tzinfo=BERLIN),
        b'{"$datetime":["2024-01-02T03:00:00",1,{"$zoneinfo":"Europe/Berlin"}]}',
    ),
    (
        dt.time(3, tzinfo=dt.timezone(dt.timedelta(hours=1), "x")),
        b'{"$time":["03:00:00",0,{"$timezone":[{"$timedelta":[0,3600,0]},"x"]}]}',
    ),
    (Decimal("1e5"), b'{"$decimal":"1E+5"}'),
    (UUID(int=1), b'{"$uuid":["00000000-0000-0000-0000-000000000001",null]}'),
]


@pytest.mark.parametrize(("value", "data"), STORED, ids=lambda value: type(value).__name__)
def test_the_stored_form_never_changes(value: Any, data: bytes) -> None:
    assert encode_value(value) == data
    assert same(decode_value(data), value)


class Text(str):
    pass


class Level(IntEnum):
    LOW = 1


class Zone(dt.tzinfo):
    def utcoffset(self, _: Any) -> dt.timedelta:
        return dt.timedelta(hours=1)


Point = namedtuple("Point", "x y")  # the plain kind is tested, too

REFUSED = [
    OrderedDict(a=1),
    defaultdict(int),
    Counter("a"),
    deque([1]),
    Point(1, 2),
    Level.LOW,
    Text("a"),
    object(),
    int,
    range(3),
    memoryview(b"a"),
    Path("a"),
    PurePosixPath("a"),
    ...,
    NotImplemented,
    iter([]),
    {}.keys(),
    lambda: 1,
    re.compile("a"),
    dt.datetime(2024, 1, 1, tzinfo=Zone()),
    dt.time(1, tzinfo=Zone()),
    dt.datetime(2024, 1, 1, tzinfo=ZoneInfo.no_cache("Europe/Berlin")),
    dt.timezone(dt.timedelta(hours=1), Text("a")),
    UUID(int=1, is_safe=1),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_l12_what_would_not_come_back_is_refused_at_save(value: Any) -> None:
    for wrapped in (value, [value], {"a": value}, (value,)):
        with pytest.raises(MaterializationError, match=r"cannot save \$"):
            encode_value(wrapped)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [Text("x")]}, r"\$\.a\[0\]: a \S*test_values\.Text would .* with str\(\.\.\.\)"),
        ([1, (2, {"b c": Level.LOW})], r"\$\[1\]\[1\]\['b c'\]: .*Level.* with int\(\.\.\.\)"),
        ({(1, 2): object()}, r"\$\[tuple key\]: a object would .* allowed are None, bool, int"),
        ({Text("x"): 1}, r"\$\.keys\(\): a \S*test_values\.Text"),
        ({"a": {Level.LOW}}, r"\$\.a\{\}: a \S*test_values\.Level"),
        ({"\ud800": object()}, r"\$\['\\ud800'\]: "),
        (OrderedDict(), r"\$: a collections\.OrderedDict .* with dict\(\.\.\.\)"),
        ([1] * 20 + [object()], r"\$\[20\]: "),
    ],
)
def test_a_refusal_names_path_and_type_and_what_to_do(value: Any, message: str) -> None:
    with pytest.raises(MaterializationError, match=message):
        encode_value(value)


def test_a_zone_from_elsewhere_under_a_known_key_is_refused() -> None:
    import zoneinfo

    paris = next(path for root in zoneinfo.TZPATH if (path := Path(root, "Asia/Tokyo")).exists())
    with paris.open("rb") as file:
        forged = ZoneInfo.from_file(file, key="Europe/Berlin")
    with pytest.raises(MaterializationError, match="time zone"):
        encode_value(dt.datetime(2024, 1, 1, tzinfo=forged))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda value: [value],
        lambda value: (value,),
        lambda value: {"a": value},
        lambda value: {1: value},
        lambda value: frozenset([value]),
    ],
)
def test_all_that_is_not_too_deep_to_save_can_be_loaded(wrap: Any) -> None:
    value: Any = dt.time(1, tzinfo=dt.timezone(dt.timedelta(1) / 2, "x"))
    for _ in range(MAX_NESTING):
        value = wrap(value)
    assert comes_back(value)
    with pytest.raises(MaterializationError, match="inside 100 containers"):
        encode_value(wrap(value))


@pytest.mark.parametrize("wrap", [lambda value: [value], lambda value: {1: value}])
def test_metadata_stays_shallow_enough_for_a_header(wrap: Any) -> None:
    value: Any = dt.time(1, tzinfo=dt.timezone(dt.timedelta(1) / 2, "x"))
    for _ in range(MAX_TREE_NESTING - 1):
        value = wrap(value)
    tree = to_tree({"b": value, "a": 1})
    assert same(from_tree(tree), {"b": value, "a": 1})
    assert depth(tree) < 60
    with pytest.raises(MaterializationError, match="inside 16 containers"):
        to_tree({"b": wrap(value)})


def depth(tree: Any) -> int:
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else None
    return 0 if inner is None else 1 + max(map(depth, inner), default=0)


def test_cycles_are_refused() -> None:
    in_list: list[Any] = []
    in_list.append(in_list)
    in_dict: dict[str, Any] = {}
    in_dict["a"] = (in_dict,)
    for cycle in (in_list, in_dict):
        with pytest.raises(MaterializationError, match="contains itself"):
            encode_value(cycle)
        assert is_large(cycle)


def test_recursion_errors_never_escape() -> None:
    value: Any = 1
    for _ in range(90):
        value = [value]
    data = encode_value({"a": value, "$": 1})

    def at_the_bottom_of_the_stack(work: Any) -> Any:
        try:
            return at_the_bottom_of_the_stack(work)
        except RecursionError:
            return work()

    for work in (lambda: encode_value(value), lambda: decode_value(data)):
        with pytest.raises(MaterializationError):
            at_the_bottom_of_the_stack(work)


def test_equal_sets_give_equal_bytes() -> None:
    elements = [f"k{n}" for n in range(100)] + [n * 1024 for n in range(100)]  # type: ignore[list-item]
    shuffled = elements[:]
    random.Random(1).shuffle(shuffled)
    assert list(set(elements)) != list(set(shuffled))
    assert encode_value(set(elements)) == encode_value(set(shuffled))
    nested = encode_value([{frozenset(elements), 1}])
    assert nested == encode_value([{1, frozenset(shuffled)}])


def test_decimals_do_not_depend_on_the_decimal_context() -> None:
    value = Decimal("1E+5")
    with localcontext(Context(capitals=0, prec=1)):
        lower = encode_value(value)
    assert lower == encode_value(value)
    with localcontext(Context(capitals=0, prec=1, traps=[])):
        assert same(decode_value(lower), value)
        with pytest.raises(MaterializationError):
            decode_value(b'{"$decimal":"garbage"}')


def test_the_result_shares_nothing_with_the_value() -> None:
    value = {"a": [1, 2], "b": {"c": [None] * 20}}
    tree = to_tree(value)
    tree["a"].append(3)
    tree["b"]["c"].clear()
    assert value == {"a": [1, 2], "b": {"c": [None] * 20}}


@pytest.mark.parametrize("value", [None, "a", [], {1: 2}, {"a": 1, None: 2}, OrderedDict(a=1)])
def test_metadata_is_a_dict_with_str_keys(value: Any) -> None:
    with pytest.raises(MaterializationError, match="dict with keys of type str"):
        to_tree(value)


@pytest.mark.parametrize(
    "tree",
    [
        None,
        [],
        1,
        "a",
        {"$tuple": []},
        {"$dict": [[1, 2]]},
        {"$dict": 1},
        {"a": math.nan},
        {"a": object()},
        {"a": {"$nope": 1}},
        {"a": 10**5000},
    ],
)
def test_hostile_trees_are_refused(tree: Any) -> None:
    with pytest.raises(MaterializationError):
        from_tree(tree)


HOSTILE = [
    b"",
    b" ",
    b"\xff",
    "é".encode(),
    "[1]".encode("utf-16"),
    b"\xef\xbb\xbf[1]",
    b"NaN",
    b"[Infinity]",
    b"-Infinity",
    b"[1,]",
    b"[1]]",
    b"1 2",
    b"'a'",
    b'{"a":1',
    b'"\\ud80"',
    b"1" * 5000,
    b"[" * 100_000,
    b"[" * 2_000 + b"]" * 2_000,
    b'{"$tuple":[' * 400 + b"]}" * 400,
    b'{"a":' * 100_000,
    b'{"$int":"0x1"}',
    b'{"$int":" 1"}',
    b'{"$int":"1_0"}',
    b'{"$int":""}',
    b'{"$int":1}',
    b'{"$int":"\\u0661"}',
    b'{"$float":"zz"}',
    b'{"$float":"7ff0"}',
    b'{"$float":"7FF0000000000000"}',
    b'{"$float":1.5}',
    b'{"$complex":[1,2]}',
    b'{"$complex":[1.0]}',
    b'{"$str":"a"}',
    b'{"$str":"/w=="}',
    b'{"$bytes":"a"}',
    b'{"$bytes":"\\u00e9"}',
    b'{"$bytes":[1]}',
    b'{"$bytearray":null}',
    b'{"$tuple":1}',
    b'{"$tuple":{"$tuple":[]}}',
    b'{"$tuple":[],"$set":[]}',
    b'{"$tuple":[],"a":1}',
    b'{"$set":[[]]}',
    b'{"$set":[1,1]}',
    b'{"$set":[1,1.0]}',
    b'{"$frozenset":[{}]}',
    b'{"$frozenset":[{"$decimal":"SNAN"}]}',
    b'{"$dict":[[[],1]]}',
    b'{"$dict":[[1]]}',
    b'{"$dict":[[1,2,3]]}',
    b'{"$dict":["ab"]}',
    b'{"$dict":[[1,2],[true,3]]}',
    b'{"$dict":{"a":1}}',
    b'{"$date":"20240101"}',
    b'{"$date":"2024-13-01"}',
    b'{"$date":1}',
    b'{"$datetime":["2024-01-01",0,null]}',
    b'{"$datetime":["2024-01-01T00:00:00Z",0,null]}',
    b'{"$datetime":["2024-01-01T00:00:00+01:00",0,null]}',
    b'{"$datetime":["2024-01-01T00:00:00",2,null]}',
    b'{"$datetime":["2024-01-01T00:00:00",true,null]}',
    b'{"$datetime":["2024-01-01T00:00:00",0,"UTC"]}',
    b'{"$datetime":["2024-01-01T00:00:00",0]}',
    b'{"$datetime":"2024-01-01T00:00:00"}',
    b'{"$time":["25:00:00",0,null]}',
    b'{"$timedelta":[999999999999,0,0]}',
    b'{"$timedelta":[0,86400,0]}',
    b'{"$timedelta":[0.0,0,0]}',
    b'{"$timezone":[]}',
    b'{"$timezone":[3600]}',
    b'{"$timezone":[{"$timedelta":[1,0,0]}]}',
    b'{"$timezone":[{"$timedelta":[0,0,0]},1]}',
    b'{"$zoneinfo":"../../etc/passwd"}',
    b'{"$zoneinfo":"/etc/passwd"}',
    b'{"$zoneinfo":"Europe"}',
    b'{"$zoneinfo":""}',
    b'{"$zoneinfo":"\\u0000"}',
    b'{"$zoneinfo":"\\ud800"}',
    b'{"$zoneinfo":["UTC"]}',
    b'{"$decimal":"1e5"}',
    b'{"$decimal":"1E+99999999999999999999"}',
    b'{"$decimal":[0,[1],0]}',
    b'{"$uuid":["x",null]}',
    b'{"$uuid":["{00000000-0000-0000-0000-000000000001}",null]}',
    b'{"$uuid":["00000000-0000-0000-0000-000000000001",5]}',
    b'{"$uuid":"00000000-0000-0000-0000-000000000001"}',
    b'{"$dataclass":["a:B",{}]}',
    b'{"$os.system":"true"}',
]


@pytest.mark.parametrize("data", HOSTILE, ids=lambda data: repr(data[:30]))
def test_hostile_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(MaterializationError):
        decode_value(data)


def only_materialization_errors(data: bytes) -> None:
    try:
        value = decode_value(data)
    except MaterializationError:
        return
    assert comes_back(value)  # all that decodes is a value that can be saved


@SOME
@given(st.binary(max_size=30) | st.text('[]{}"$:,1e.tuplsedic ', max_size=30).map(str.encode))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    only_materialization_errors(data)


@settings(SOME, max_examples=3_000)
@given(VALUES, st.data())
def test_damaged_encodings_raise_nothing_else(value: Any, data: st.DataObject) -> None:
    encoded = bytearray(encode_value(value))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(encoded)))
        encoded[at : at + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    only_materialization_errors(bytes(encoded))


TAG_NAMES = ["$" + kind.__name__.lower() for kind in SUPPORTED] + ["$", "$x", "a"]
TREES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "2024-01-01T00:00:00", "2024-01-01", "UTC", "ff", "YQ==", "Europe"])
    | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(TAG_NAMES), inner, min_size=1, max_size=1)
        | st.dictionaries(st.sampled_from(TAG_NAMES), inner, max_size=2)
    ),
    max_leaves=8,
)


@settings(SOME, max_examples=5_000)
@given(TREES)
def test_made_up_trees_raise_nothing_else(tree: Any) -> None:
    only_materialization_errors(json.dumps(tree).encode())
    with contextlib.suppress(MaterializationError):
        from_tree(tree)


def test_x1_decoding_imports_nothing_that_the_data_names() -> None:
    before = set(sys.modules)
    for tag in ("$zoneinfo", "$dataclass", "$enum", "$object", "$this"):
        for name in ("this", "antigravity.x", "this/x"):
            for content in (name, [name, {}]):
                with pytest.raises(MaterializationError):
                    decode_value(json.dumps({tag: content}).encode())
    assert not {"this", "antigravity"} & (set(sys.modules) - before)


def test_decoding_colliding_keys_stays_linear() -> None:
    collide = [f"{n * (2**61 - 1):x}" for n in range(10, 60_010)]
    keys = ",".join(f'{{"$int":"{text}"}}' for text in collide)
    pairs = ",".join(f'[{{"$int":"{text}"}},1]' for text in collide)
    start = time.perf_counter()
    for text in (f'{{"$set":[{keys}]}}', f'{{"$dict":[{pairs}]}}'):
        with pytest.raises(MaterializationError, match="equal hashes"):
            decode_value(text.encode())
    assert time.perf_counter() - start < 10  # quadratic would be minutes


def test_what_collides_too_much_to_load_is_refused_at_save() -> None:
    for count, fits in ((100, True), (102, False)):
        value = {n * (2**61 - 1) for n in range(10, 10 + count)}
        if fits:
            assert comes_back(value)
        else:
            with pytest.raises(MaterializationError, match="equal hashes; use a list"):
                encode_value(value)


def test_decoding_deep_brackets_in_strings_is_no_nesting() -> None:
    value = ["[" * 1000, '\\"[' * 1000, {"{" * 1000: "\\"}, "\\" * 3 + '"']
    assert comes_back(value)
    assert comes_back([[[]] * 5000, {"$": '"' * 7}])


def test_a_value_that_another_thread_changes_is_saved_or_refused() -> None:
    value: dict[str, Any] = {"d": {}, "s": set(), "l": [], "b": bytearray()}
    stop = threading.Event()

    def change() -> None:
        numbers = random.Random(0)
        while not stop.is_set():
            n = numbers.randrange(500)
            value["d"][n] = value["d"].pop(n, None)
            value["s"] ^= {n}
            value["l"][:] = range(n)
            value["b"][:] = b"x" * n

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(300):
            try:
                data = encode_value(value)
            except MaterializationError:
                continue
            assert set(decode_value(data)) == {"d", "s", "l", "b"}
            assert is_large(value) in (True, False)
    finally:
        stop.set()
        thread.join()


def test_a_size_change_during_iteration_is_a_materialization_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from asyncstore.materializers import values

    def changed(*_: Any) -> Any:
        raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setitem(values._CONTAINERS, dict, changed)
    with pytest.raises(MaterializationError, match="changed while it was being saved"):
        encode_value([{}])


@pytest.mark.parametrize(
    ("value", "large"),
    [
        (1, False),
        ("x" * 65_536, False),
        ("x" * 65_537, True),
        ({"a": b"x" * 70_000}, True),
        ({"a": [1] * 50, "b": "x"}, False),
        ([0] * 5_000, True),
        (list(range(500)), False),
        ({"x" * 70_000: 1}, True),
        ({n: n for n in range(10**6)}, True),
        ([["x" * 1000]] * 80, True),
        (1 << 1_000_000, True),
        ([[[]] * 50] * 50, True),
        (object(), False),
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) else type(value).__name__,
)
def test_is_large(value: Any, large: bool) -> None:
    assert is_large(value) is large


def test_is_large_looks_at_a_bounded_number_of_nodes() -> None:
    class Counting:
        seen = 0

    def parts(_: Any) -> list[Any]:
        Counting.seen += 1
        return [Counting(), Counting()]

    assert is_large(Counting(), parts=parts)
    assert Counting.seen <= 1000
    assert not is_large(["x" * 10], budget=100)
    assert is_large(["x" * 10], budget=30)


def test_every_supported_type_is_in_the_round_trip() -> None:
    samples: list[Any] = [
        None, True, 1, 1.0, 1j, "a", b"a", bytearray(b"a"), dt.datetime(2024, 1, 1),
        dt.date(2024, 1, 1), dt.time(1), dt.timedelta(1), dt.UTC, BERLIN, Decimal(1),
        UUID(int=1), [1], (1,), {1: 1}, {1}, frozenset({1}),
    ]  # fmt: skip
    assert {type(sample) for sample in samples} == set(SUPPORTED)
    for sample in samples:
        assert comes_back(sample)
        assert comes_back([sample, {"a": copy.deepcopy(sample)}, (sample,)])
