"""pydantic models."""

from __future__ import annotations

import datetime as dt
from enum import Enum
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from asyncstore.errors import MaterializationError
from asyncstore.materializers import Encoded, PydanticMaterializer, default_materializers
from tests.materializers.support import no_other_error, there_and_back, through_registry

pydantic: Any = pytest.importorskip("pydantic", reason="pydantic is not installed")

PYDANTIC = PydanticMaterializer()


class Color(Enum):
    RED = 1


class Inner(pydantic.BaseModel):  # type: ignore[misc]
    x: int = 1


class Special(Inner):
    y: int = 2


class Cat(pydantic.BaseModel):  # type: ignore[misc]
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(pydantic.BaseModel):  # type: ignore[misc]
    kind: Literal["dog"] = "dog"


class Model(pydantic.BaseModel):  # type: ignore[misc]
    a: int
    b: tuple[int, ...] = ()
    c: dict[int, float] = {}  # noqa: RUF012
    d: Inner = Inner()
    e: Any = None
    f: pydantic.SecretStr | None = None
    g: bytes = b""
    h: float = 0.0
    i: set[str] = set()  # noqa: RUF012
    aliased: int = pydantic.Field(3, alias="AL")
    hidden: int = pydantic.Field(1, exclude=True)
    when: dt.datetime | None = None
    color: Color = Color.RED
    uid: UUID | None = None
    pet: Cat | Dog | None = None
    _note: int = pydantic.PrivateAttr(0)


class Open(pydantic.BaseModel):  # type: ignore[misc]
    model_config = pydantic.ConfigDict(extra="allow")


class Box(pydantic.RootModel[list[Inner]]):  # type: ignore[misc]
    pass


class Exact(pydantic.BaseModel):  # type: ignore[misc]
    model_config = pydantic.ConfigDict(ser_json_inf_nan="constants", frozen=True)
    x: float = 0.0


UTC = dt.UTC
MODELS = [
    Model(a=1),
    Model(a=2**100, b=(1, 2), c={1: 1.5}, i={"a"}, AL=9, g=b"abc", e=[1, 1.0, True, None]),
    Model(a=1, when=dt.datetime(2020, 1, 1), uid=UUID(int=5), pet=Cat(lives=3), d=Inner(x=5)),
    Model(a=1, when=dt.datetime(2020, 1, 1, tzinfo=UTC), pet=Dog()),
    Open(x=1, y="z"),
    Box([Inner(x=3)]),
    Exact(x=float("inf")),
    Exact(x=float("nan")),
]


@pytest.mark.parametrize("model", MODELS, ids=repr)
def test_models_come_back_equal(model: Any) -> None:
    assert default_materializers().for_object(model).id == "pydantic"
    back = there_and_back(PYDANTIC, model, type(model))
    assert type(back) is type(model)
    assert repr(back).replace("TzInfo(0)", "x") == repr(model).replace("datetime.timezone.utc", "x")
    known = PydanticMaterializer([Open, type(model), Inner])
    assert repr(there_and_back(known, model)) == repr(back)


@pytest.mark.asyncio
async def test_models_come_back_from_a_registry() -> None:
    model = Model(a=1, i={str(n) for n in range(20_000)})
    assert await through_registry(model, Model) == model
    assert await through_registry(model, materializers=[PydanticMaterializer([Model])]) == model


def with_note() -> Any:
    model = Model(a=1)
    model._note = 5
    return model


def with_text() -> Any:
    model = Model(a=1)
    model.a = "x"
    return model


REFUSED = [
    (Model(a=1, e=(1, 2)), r"\$\.e: a tuple comes back as a list"),
    (Model(a=1, e=dt.date(2020, 1, 1)), r"\$\.e: a datetime.date comes back as a str"),
    (Model(a=1, e=Color.RED), r"\$\.e: a .*Color comes back as a int"),
    (Model(a=1, f="s"), r"\$\.f"),
    (Model(a=1, g=b"\xff"), "utf-8"),
    (Model(a=1, h=float("inf")), "own JSON does not validate"),
    (Model(a=1).model_copy(update={"hidden": 5}), r"\$\.hidden"),
    (Model(a=1, d=Special()), r"\$\.d: a .*Special comes back as a .*Inner"),
    (Model(a=1, when=dt.datetime(2020, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))), r"\$\.when"),
    (with_note(), r"\$\._note"),
    (with_text(), "Expected `int`"),
    (Model(a=1, e=object()), "serialize"),
]


@pytest.mark.parametrize(("model", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_json_does_not_give_back_is_refused_by_field(model: Any, message: str) -> None:
    with pytest.raises(MaterializationError, match=message):
        PYDANTIC.encode(model)


def test_x1_no_class_is_found_by_its_stored_name() -> None:
    encoded = PYDANTIC.encode(Inner())
    with pytest.raises(MaterializationError, match=r"pydantic model .*Inner.*as_type=Inner\)"):
        PYDANTIC.decode(encoded, None)
    with pytest.raises(MaterializationError, match="is no pydantic model"):
        PYDANTIC.decode(encoded, dict)
    with pytest.raises(MaterializationError, match="as_type"):
        PydanticMaterializer([Inner]).decode(Encoded(encoded.files, {"class": "os.system"}), None)
    assert PYDANTIC.decode(encoded, Special) == Special(x=1, y=2)
    with pytest.raises(MaterializationError, match="expected a pydantic model"):
        PYDANTIC.encode({"x": 1})


def test_damaged_files_raise_nothing_else() -> None:
    no_other_error(PYDANTIC, PYDANTIC.encode(MODELS[1]), Model, tries=150)
    for data in (b"[" * 100_000, b'{"a":' * 50_000, b"9" * 100_000, b'{"a":1e999999}'):
        with pytest.raises(MaterializationError):
            PYDANTIC.decode(Encoded({"data.json": data}), Model)


def test_large_models_are_known() -> None:
    assert PYDANTIC.is_large(Model(a=1, g=b"x" * 100_000))
    assert not PYDANTIC.is_large(Model(a=1))
