"""msgspec structs."""

from __future__ import annotations

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncstore.errors import MaterializationError
from asyncstore.materializers import Encoded, StructMaterializer, default_materializers
from tests.materializers.support import no_other_error, there_and_back, through_registry

STRUCTS = StructMaterializer()


class Leaf(msgspec.Struct, tag="leaf", frozen=True):
    n: int


class Tree(msgspec.Struct, tag="tree"):
    left: Tree | Leaf
    right: Tree | Leaf | None = None


class Everything(msgspec.Struct, kw_only=True, omit_defaults=True):
    a: int
    b: tuple[int, ...] = ()
    c: dict[int, float] = {}
    d: Any = None
    e: bytes = b""
    f: float = 0.0
    g: set[str] = set()
    when: dt.datetime | None = None


class Row(msgspec.Struct, array_like=True, eq=False):
    x: int
    y: str = ""


class Checked(msgspec.Struct):
    x: int

    def __post_init__(self) -> None:
        if self.x < 0:
            raise OSError("negative")


ALL: list[Any] = [
    Leaf(1),
    Tree(Leaf(1), Tree(Leaf(2))),
    Everything(a=1),
    Everything(a=2**63, b=(1, 2), c={1: 1.5}, d={1: b"x", "l": [1.0, None]}, g={"a"}, e=b"\xff"),
    Everything(a=1, f=float("nan"), when=dt.datetime(2020, 1, 1, tzinfo=dt.UTC)),
    Everything(a=1, when=dt.datetime(2020, 1, 1, 1, 1, 1, 5)),
    Row(1, "a"),
]


@pytest.mark.parametrize("struct", ALL, ids=repr)
def test_structs_come_back_equal(struct: Any) -> None:
    assert default_materializers().for_object(struct).id == "msgspec"
    assert repr(there_and_back(STRUCTS, struct, type(struct))) == repr(struct)
    known = StructMaterializer([Checked, type(struct)])
    back = there_and_back(known, struct)
    assert type(back) is type(struct)
    assert repr(back) == repr(struct)


TREES = st.recursive(
    st.builds(Leaf, st.integers(-(2**63), 2**63)),
    lambda inner: st.builds(Tree, inner, st.none() | inner),
)


@settings(deadline=None)
@given(TREES)
def test_all_trees_come_back(tree: Any) -> None:
    assert there_and_back(STRUCTS, tree, type(tree)) == tree


@pytest.mark.asyncio
async def test_structs_come_back_from_a_registry() -> None:
    struct = Everything(a=1, g={str(n) for n in range(20_000)})
    assert await through_registry(struct, Everything) == struct
    assert (
        await through_registry(struct, materializers=[StructMaterializer([Everything])]) == struct
    )


REFUSED: list[tuple[Any, str]] = [
    (Everything(a=1, d=(1,)), r"\$\.d: a tuple comes back as a list"),
    (Everything(a=1, d=dt.date(2020, 1, 1)), r"\$\.d: a datetime.date comes back as a str"),
    (Everything(a="x"), r"Expected `int`, got `str`.*\$\.a"),  # type: ignore[arg-type]
    (Everything(a=2**70), "OverflowError"),
    (Everything(a=1, d=object()), "unsupported"),
    (
        Everything(a=1, when=dt.datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))),
        r"\$\.when: the time zone",
    ),
]


@pytest.mark.parametrize(("struct", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_does_not_come_back_is_refused_by_field(struct: Any, message: str) -> None:
    with pytest.raises(MaterializationError, match=message):
        STRUCTS.encode(struct)


def test_x1_no_class_is_found_by_its_stored_name() -> None:
    encoded = STRUCTS.encode(Leaf(1))
    with pytest.raises(MaterializationError, match=r"msgspec struct .*Leaf.*as_type=Leaf\)"):
        STRUCTS.decode(encoded, None)
    with pytest.raises(MaterializationError, match="Invalid value 'leaf'"):
        STRUCTS.decode(encoded, Tree)
    with pytest.raises(MaterializationError, match="is no msgspec struct"):
        STRUCTS.decode(encoded, dict)
    with pytest.raises(MaterializationError, match=r"expected a msgspec\.Struct"):
        STRUCTS.encode({"x": 1})


def test_hostile_bytes_raise_nothing_else() -> None:
    no_other_error(STRUCTS, STRUCTS.encode(ALL[3]), Everything, tries=200)
    no_other_error(STRUCTS, STRUCTS.encode(ALL[1]), Tree, tries=200)
    hostile = [
        b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x91" * 100_000,
        b"\xc6\xff\xff\xff\xff",
        b"\x81\xa1x\xff",  # a Checked of -1, which raises another error
    ]  # fmt: skip
    for data in hostile:
        for kind in (Tree, Everything, Row, Checked):
            with pytest.raises(MaterializationError):
                STRUCTS.decode(Encoded({"data.msgpack": data}), kind)
