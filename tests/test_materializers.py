"""The shipped materializers: plain values, dataclasses and enums."""

import dataclasses
import sys
import typing
from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from dataclasses import InitVar, dataclass, field
from enum import Enum, Flag, IntEnum, IntFlag, StrEnum, auto
from functools import cached_property
from types import ModuleType
from typing import Annotated, Any, ClassVar, Generic, Literal, NewType, Optional, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import asyncstore.materializers
from asyncstore.errors import MaterializationError
from asyncstore.materializers import (
    BytesMaterializer,
    DataclassMaterializer,
    Encoded,
    EnumMaterializer,
    JsonMaterializer,
    Materializer,
    Materializers,
    StrMaterializer,
    default_materializers,
)
from asyncstore.materializers.values import encode_value

JSON, STR, BYTES = JsonMaterializer(), StrMaterializer(), BytesMaterializer()
ENUM, DATACLASS = EnumMaterializer(), DataclassMaterializer()
ALL: list[Materializer] = [JSON, STR, BYTES, ENUM, DATACLASS]


class Color(Enum):
    RED = 1
    CRIMSON = 1  # noqa: PIE796  # an alias
    BLUE = "b"


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "y"


class Access(Flag):
    READ = auto()
    WRITE = auto()
    BOTH = READ | WRITE
    EXECUTE = auto()


class Bits(IntFlag):
    A = 1
    B = 2


class Text(str):
    pass


Meters = NewType("Meters", int)
T = TypeVar("T")


@dataclass
class Point:
    x: int
    y: float = 0.5


@dataclass(frozen=True, slots=True)
class Frozen:
    key: str
    points: tuple[Point, ...] = ()


@dataclass(kw_only=True)
class Box(Generic[T]):
    item: T


@dataclass
class Node:
    name: str
    children: "list[Node]" = field(default_factory=list)
    parent: Optional["Node"] = None


@dataclass(eq=True)
class Everything:
    one: Point
    maybe: Point | None
    many: dict[str, list[Frozen]]
    color: Annotated[Color, ["unhashable"]]
    only: Literal[Level.LOW]
    box: Box[Word]
    keyed: dict[Frozen, set[Access]]
    number: Meters
    plain: Any
    hidden: int = field(init=False, default=3)
    unlike: int = field(compare=False, default=1)
    shared: ClassVar[int] = 5
    seed: InitVar[int] = 0
    runs: ClassVar[list[str]] = []

    def __post_init__(self, seed: int) -> None:
        self.runs.append("post_init")
        self.hidden = 4

    @cached_property
    def size(self) -> int:
        return len(self.many)


def everything() -> Everything:
    frozen = Frozen("f", (Point(1), Point(2, -0.0)))
    return Everything(
        one=Point(1, 2.0),
        maybe=None,
        many={"a": [frozen], "$b": []},
        color=Color.BLUE,
        only=Level.LOW,
        box=Box(item=Word.YES),
        keyed={frozen.__class__("k"): {Access.READ, Access.READ | Access.EXECUTE}},
        number=Meters(3),
        plain=(1, {2: Point(7)}),
    )


def there_and_back(materializer: Materializer, obj: Any, as_type: type | None = None) -> Any:
    return materializer.decode(materializer.encode(obj), as_type)


def test_the_exported_names_are_sorted_and_there() -> None:
    names = asyncstore.materializers.__all__
    assert names == sorted(names)
    assert all(hasattr(asyncstore.materializers, name) for name in names)


@pytest.mark.parametrize("materializer", ALL, ids=lambda materializer: materializer.id)
def test_each_is_a_materializer_in_the_default_table(materializer: Materializer) -> None:
    assert isinstance(materializer, Materializer)
    assert type(default_materializers().by_id(materializer.id)) is type(materializer)


@pytest.mark.parametrize(
    ("obj", "id"),
    [
        (None, "json"),
        (1, "json"),
        ([1], "json"),
        ({1: 2}, "json"),
        (bytearray(b"a"), "json"),
        ("a", "str"),
        (b"a", "bytes"),
        (Color.RED, "enum"),
        (Level.LOW, "enum"),
        (Word.YES, "enum"),
        (Bits.A | Bits.B, "enum"),
        (Point(1), "dataclass"),
        (Frozen("a"), "dataclass"),
    ],
)
def test_the_materializer_follows_from_the_type(obj: Any, id: str) -> None:
    assert default_materializers().for_object(obj).id == id


@pytest.mark.parametrize(
    "obj",
    [Text("a"), OrderedDict(), namedtuple("P", "x")(1), memoryview(b"a"), object(), int, Color],
    ids=lambda obj: type(obj).__name__,
)
def test_l12_subclasses_and_unknown_types_have_no_materializer(obj: Any) -> None:
    with pytest.raises(MaterializationError):
        default_materializers().for_object(obj)


PLAIN: list[tuple[Materializer, Any]] = [
    (JSON, {"a": (1, {2})}),
    (JSON, "chosen explicitly"),
    (JSON, b"chosen explicitly"),
    (STR, ""),
    (STR, "a\r\n\x00é\U00010000"),
    (STR, "\ud800\udc00"),
    (BYTES, b"\x00\xff"),
]


@pytest.mark.parametrize(("materializer", "obj"), PLAIN)
def test_plain_values_come_back(materializer: Materializer, obj: Any) -> None:
    for as_type in (None, type(obj), object):
        back = there_and_back(materializer, obj, as_type)
        assert type(back) is type(obj)
        assert back == obj


@pytest.mark.parametrize(("materializer", "obj"), PLAIN)
@pytest.mark.parametrize("as_type", [complex, Point, Color, list[int], "str"])
def test_a_mismatch_with_as_type_is_an_error(
    materializer: Materializer, obj: Any, as_type: Any
) -> None:
    with pytest.raises(MaterializationError, match="as_type"):
        there_and_back(materializer, obj, as_type)


@settings(deadline=None)
@given(st.text(st.characters() | st.characters(categories=["Cs"])))
def test_all_text_comes_back(text: str) -> None:
    assert there_and_back(STR, text) == text


def test_bytes_pass_through_without_a_copy() -> None:
    data = bytes(1000)
    encoded = BYTES.encode(data)
    assert encoded.files["data.bin"] is data
    assert BYTES.decode(encoded, None) is data
    assert not BYTES.is_large(bytes(10**6))


@pytest.mark.parametrize(
    ("materializer", "obj"),
    [
        (STR, Text("a")),
        (STR, b"a"),
        (BYTES, bytearray(b"a")),
        (BYTES, "a"),
        (JSON, Text("a")),
        (JSON, Point(1)),
        (JSON, [Color.RED]),
        (ENUM, 1),
        (ENUM, Color),
        (DATACLASS, Color.RED),
        (DATACLASS, Point),
        (DATACLASS, {"x": 1}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_chosen_materializer_refuses_what_is_not_its_own(
    materializer: Materializer, obj: Any
) -> None:
    assert materializer.is_large(obj) in (True, False)
    with pytest.raises(MaterializationError):
        materializer.encode(obj)


@pytest.mark.parametrize("materializer", ALL, ids=lambda materializer: materializer.id)
@pytest.mark.parametrize("files", [{}, {"other": b"1"}, {"data.json": b"1", "x": b""}])
def test_the_wrong_files_are_refused(materializer: Materializer, files: dict[str, bytes]) -> None:
    for as_type in (None, Point, Color):
        with pytest.raises(MaterializationError):
            materializer.decode(Encoded(files), as_type)


def test_text_that_is_no_utf8_is_refused() -> None:
    with pytest.raises(MaterializationError, match="UTF-8"):
        STR.decode(Encoded({"data.txt": b"\xff"}), None)


def test_large_is_what_takes_long_to_encode() -> None:
    assert STR.is_large("x" * 70_000)
    assert not STR.is_large("x" * 60_000)
    assert JSON.is_large(["x" * 70_000])
    assert DATACLASS.is_large(Node("a", [Node("x" * 70_000)]))
    assert DATACLASS.is_large(Frozen("x" * 70_000))
    assert not DATACLASS.is_large(everything())
    assert not ENUM.is_large(Color.RED)


def test_l12_dataclasses_come_back_with_all_fields_and_types() -> None:
    obj = everything()
    obj.unlike = 2
    assert obj.size == 2  # the value of a cached_property is no field and made again
    runs = len(Everything.runs)
    back = there_and_back(DATACLASS, obj, Everything)
    assert type(back) is Everything
    assert back == obj
    assert repr(back) == repr(obj)
    assert (back.hidden, back.unlike) == (4, 2)
    assert type(back.plain[1][2]) is Point
    assert type(next(iter(back.keyed))) is Frozen
    assert len(Everything.runs) == runs  # neither __init__ nor __post_init__
    assert "size" not in vars(back)


def test_recursive_dataclasses_come_back() -> None:
    node = Node("a", [Node("b", [Node("c")])], parent=Node("p"))
    assert there_and_back(DATACLASS, node, Node) == node
    node.children.append(node)
    with pytest.raises(MaterializationError, match="contains itself"):
        DATACLASS.encode(node)


def test_dataclasses_made_in_a_function_come_back() -> None:
    @dataclass
    class Local:
        inner: "Local | None" = None

    assert there_and_back(DATACLASS, Local(Local()), Local) == Local(Local())


def test_x1_no_class_is_found_by_its_stored_name() -> None:
    encoded = DATACLASS.encode(Point(1))
    assert encoded.params == {"class": f"{__name__}.Point"}
    with pytest.raises(MaterializationError, match=r"dataclass .*\.Point.*as_type=Point\)"):
        DATACLASS.decode(encoded, None)
    with pytest.raises(MaterializationError, match=r"enum .*\.Color.*as_type=Color\)"):
        ENUM.decode(ENUM.encode(Color.RED), None)
    for as_type in (dict, Color, object, int):
        with pytest.raises(MaterializationError, match="is no dataclass"):
            DATACLASS.decode(encoded, as_type)
    stored = b'{"x":{"$dataclass":["%s:Point",{"x":1}]}}' % __name__.encode()
    assert sys.modules[__name__].Point is Point
    with pytest.raises(MaterializationError, match="name no class"):
        DATACLASS.decode(Encoded({"data.json": stored}), Frozenless)


@dataclass
class Frozenless:
    x: Any


@dataclass
class Other:
    x: int
    y: float
    z: list[int] = field(default_factory=lambda: [9])


@dataclass
class Fewer:
    x: int


@dataclass
class More:
    x: int
    y: float
    z: int


def test_another_dataclass_may_be_asked_for_if_its_fields_fit() -> None:
    encoded = DATACLASS.encode(Point(1, 2.0))
    assert DATACLASS.decode(encoded, Other) == Other(1, 2.0, [9])
    with pytest.raises(MaterializationError, match="Fewer has no field 'y'"):
        DATACLASS.decode(encoded, Fewer)
    with pytest.raises(MaterializationError, match=r"'z' of .*More is not stored and has no def"):
        DATACLASS.decode(encoded, More)


def test_x1_numbers_of_very_many_digits_can_be_told_of() -> None:
    """Python writes no decimals of them, not even for a message."""
    with pytest.raises(MaterializationError, match="no field a number of very many digits"):
        DATACLASS.decode(Encoded({"data.json": encode_value({10**9_999: 1})}), Fewer)
    with pytest.raises(MaterializationError, match="no member a number of very many digits"):
        ENUM.decode(Encoded({"data.json": encode_value(10**9_999)}), Color)


def moved(module: str, qualname: str = "Item") -> type:
    item = dataclasses.make_dataclass("Item", [("x", int)])
    item.__module__, item.__qualname__ = module, qualname
    return item


def test_nested_classes_are_found_after_their_module_has_moved() -> None:
    old, new, twin = moved("old"), moved("new"), moved("twin")
    before = dataclasses.make_dataclass("Holder", [("items", list[old])])  # type: ignore[valid-type]
    encoded = DATACLASS.encode(before([old(1)]))
    after = dataclasses.make_dataclass("Holder", [("items", list[new])])  # type: ignore[valid-type]
    assert type(DATACLASS.decode(encoded, after).items[0]) is new
    both = dataclasses.make_dataclass("Holder", [("items", list[new | twin])])  # type: ignore[valid-type]
    with pytest.raises(MaterializationError, match="or several"):
        DATACLASS.decode(encoded, both)


def test_classes_of_one_name_are_refused_at_save() -> None:
    one, two = moved("m"), moved("m")
    holder = dataclasses.make_dataclass("Holder", [("item", one | two)])  # type: ignore[operator]
    with pytest.raises(MaterializationError, match=r"\$\.item: .*two of this name"):
        DATACLASS.encode(holder(one(1)))


@dataclass
class Loose:
    a: list[object]
    b: Any = None


@dataclass
class Derived(Point):
    z: int = 0


@dataclass
class Unresolved:
    a: "Missing"  # type: ignore[name-defined]  # noqa: F821


@dataclass
class OwnDict(dict[str, int]):
    x: int = 0


@dataclass
class OwnError(Exception):
    x: int = 0


@dataclass
class Picky:
    x: int

    def __new__(cls, x: int) -> "Picky":
        return super().__new__(cls)


@dataclass
class Slotted:
    __slots__ = ("more", "x")
    x: int


class Celsius:
    def __get__(self, obj: Any, kind: Any = None) -> Any:
        return 1.0 if obj is None else obj._value

    def __set__(self, obj: Any, value: Any) -> None:
        obj._value = value


@dataclass
class Described:
    degrees: float = Celsius()  # type: ignore[assignment]


def with_attribute(obj: Any, name: str) -> Any:
    setattr(obj, name, 1)
    return obj


def without_attribute(obj: Any, name: str) -> Any:
    object.__delattr__(obj, name)
    return obj


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (Loose([1, Point(1)]), r"\$\.a\[1\]: .*Point: .*type hints of .*Loose.*Point \| None"),
        (Loose([], {"k": Color.RED}), r"\$\.b\.k: .*Color"),
        (Loose([object()]), r"\$\.a\[0\]: a object"),
        (Frozen("a", (Derived(1),)), r"\$\.points\[0\]: .*Derived"),
        (Node("a", [Node(Text("b"))]), r"\$\.children\[0\]\.name: .*Text"),
        (Unresolved(Point(1)), r"\$\.a: .*Unresolved cannot be resolved .*TYPE_CHECKING"),
        (OwnDict(1), "OwnDict cannot be rebuilt"),
        (OwnError(1), "OwnError cannot be rebuilt"),
        (Picky(1), "__new__ needs arguments"),
        (with_attribute(Point(1), "extra"), "attribute 'extra', which is no field"),
        (with_attribute(Slotted(1), "more"), "attribute 'more', which is no field"),
        (Node("a", [with_attribute(Node("b"), "c")]), r"\$\.children\[0\]: .*attribute 'c'"),
        (without_attribute(Frozen("a"), "key"), "no value .*key.* set it"),
        (without_attribute(Point(1), "x"), "no value"),
        (Described(2.0), "'degrees' of .* keeps its value elsewhere"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_l12_dataclasses_that_would_not_come_back_are_refused(obj: Any, message: str) -> None:
    with pytest.raises(MaterializationError, match=message):
        DATACLASS.encode(obj)


def test_slots_besides_the_fields_may_be_unset() -> None:
    assert there_and_back(DATACLASS, Slotted(3), Slotted).x == 3


HOSTILE_FIELDS = [
    b"[]",
    b"1",
    b'{"$tuple":[]}',
    b'{"name":"a","$":1}',
    b'{"$dict":[[1,2]]}',
    b'{"name":"a","__class__":1}',
    b'{"name":"a","__dict__":{}}',
    b'{"children":[]}',
    b'{"name":{"$dataclass":["os:system",{}]}}',
    b'{"name":{"$dataclass":["M:Node"]}}',
    b'{"name":{"$dataclass":["M:Node",[]]}}',
    b'{"name":{"$dataclass":["M:Node",{"x":1}]}}',
    b'{"name":{"$dataclass":[1,{}]}}',
    b'{"name":{"$dataclass":{}}}',
    b'{"name":{"$dataclass":["M:int",{}]}}',
    b'{"name":{"$enum":["M:Node","a"]}}',
    b'{"name":{"$set":[{"$dataclass":["M:Node",{"name":"a"}]}]}}',
    b'{"name":{"$call":["M:Node",{}]}}',
]


@pytest.mark.parametrize("data", HOSTILE_FIELDS)
def test_hostile_fields_are_refused(data: bytes) -> None:
    data = data.replace(b'"M:', b'"' + __name__.encode() + b":")
    with pytest.raises(MaterializationError):
        DATACLASS.decode(Encoded({"data.json": data}), Node)


@pytest.mark.parametrize("params", [{}, {"class": 1}, {"class": ["x"]}, {"class": "\ud800" * 999}])
def test_hostile_params_only_show_in_the_message(params: dict[str, Any]) -> None:
    for materializer in (DATACLASS, ENUM):
        with pytest.raises(MaterializationError) as caught:
            materializer.decode(Encoded({"data.json": b"{}"}, params), None)
        assert str(caught.value).isascii()
        assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "member",
    [*Color, *Level, *Word, *Access, Access(0), Access.READ | Access.EXECUTE, Bits(0), Bits(7)],
)
def test_enums_come_back_as_the_very_members(member: Enum) -> None:
    assert there_and_back(ENUM, member, type(member)) is member


def test_aliases_come_back_as_the_member_they_are() -> None:
    assert there_and_back(ENUM, Color.CRIMSON, Color) is Color.RED
    assert there_and_back(ENUM, Access.BOTH, Access) is Access.BOTH


class Stray(Flag):
    ONE = 1

    @classmethod
    def _missing_(cls, value: object) -> Any:
        raise OSError("a hook that fails")


@pytest.mark.parametrize("kind", [Color, Access, Stray])
def test_l12_members_that_the_class_does_not_give_back_are_refused(kind: Any) -> None:
    named = object.__new__(kind)
    named._name_, named._value_ = "RED", 1
    for stray in (object.__new__(kind), named, int.__new__(Level, 7)):
        with pytest.raises(MaterializationError, match="is no member"):
            ENUM.encode(stray)


@pytest.mark.parametrize(
    ("data", "as_type"),
    [
        (b'"GREEN"', Color),
        (b"1", Color),
        (b'"__class__"', Color),
        (b'"mro"', Color),
        (b"[]", Color),
        (b"[]", Access),
        (b"1024", Access),
        (b"-1", Access),
        (b"true", Access),
        (b"1.0", Access),
        (b"2", Stray),
        (b'{"$int":"ffffffffffffffffffffffff"}', Access),
        (b'"RED"', Point),
        (b'"RED"', int),
    ],
)
def test_hostile_members_are_refused(data: bytes, as_type: type) -> None:
    with pytest.raises(MaterializationError):
        ENUM.decode(Encoded({"data.json": data}), as_type)


def test_hints_are_looked_at_only_when_a_nested_class_is_met() -> None:
    assert there_and_back(DATACLASS, Unresolved(5), Unresolved) == Unresolved(5)


def test_every_way_to_write_a_hint_reaches_its_class() -> None:
    hints: list[Any] = [
        Point,
        list[Point],
        dict[str, dict[int, Point]],
        Point | None,
        Optional[Point],  # noqa: UP045
        typing.List["Point"],  # noqa: UP006
        Annotated[list[Point], []],
        Mapping[Point, int],
        "Point",
        "list['Point'] | None",
        NewType("Spot", Point),
        TypeVar("Bound", bound=Point),
        Box[Point],
        typing.Final[Point],
    ]
    for hint in hints:
        holder = dataclasses.make_dataclass("Holder", [("item", hint)])
        holder.__module__ = __name__
        assert there_and_back(DATACLASS, holder([Point(1)]), holder) == holder([Point(1)])


def test_a_later_materializer_wins_over_the_defaults() -> None:
    class Mine(JsonMaterializer):
        pass

    table = default_materializers().extended([Mine()])
    assert isinstance(table, Materializers)
    assert type(table.for_object([1])) is Mine


def test_x1_nothing_is_imported_by_decoding() -> None:
    data = b'{"name":{"$dataclass":["antigravity:x",{}]}}'
    before: dict[str, ModuleType] = dict(sys.modules)
    with pytest.raises(MaterializationError):
        DATACLASS.decode(Encoded({"data.json": data}, {"class": "antigravity.x"}), Node)
    assert set(sys.modules) == set(before)


@pytest.mark.parametrize("chosen", [5, True, [], {}, object(), JsonMaterializer])
def test_what_is_no_materializer_is_refused(chosen: Any) -> None:
    with pytest.raises(MaterializationError, match="materializer="):
        default_materializers().for_object({"a": 1}, chosen)
