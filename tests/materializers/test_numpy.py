"""NumPy arrays, numbers and dictionaries of arrays."""

from __future__ import annotations

import struct
from typing import Any

import pytest
from hypothesis import assume, given, settings

from asyncstore import AsyncRegistry
from asyncstore.errors import MaterializationError
from asyncstore.materializers import (
    Encoded,
    NumpyDictMaterializer,
    NumpyMaterializer,
    default_materializers,
)
from tests.materializers.support import no_other_error, there_and_back, through_registry

np: Any = pytest.importorskip("numpy", reason="numpy is not installed")
extra: Any = pytest.importorskip("hypothesis.extra.numpy", reason="numpy is not installed")

ARRAY, DICT = NumpyMaterializer(), NumpyDictMaterializer()

ARRAYS = [
    np.arange(6).reshape(2, 3),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.array(5),
    np.zeros((0, 3), "f4"),
    np.zeros((3, 0), order="F"),
    np.array([], dtype="U0"),
    np.zeros(3, "V0"),
    np.array(["a", "bcd", "é\U00010000"]),
    np.array([b"", b"ab"]),
    np.array(["2020-01", "NaT"], "M8[M]"),
    np.array([1, -1], "m8[7D]"),
    np.array([1.5, -0.0, np.nan, np.inf], ">f4"),
    np.array([1, 2], "<u8"),
    np.array([1 + 2j], ">c16"),
    np.array([True, False]),
    np.zeros(3, [("a", "<i4"), ("b", ">f8", (2,)), ("c", [("d", "U3")])]),
    np.zeros(2, {"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [0, 12], "itemsize": 24}),
    np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
    np.arange(10)[::-3],
    np.broadcast_to(np.arange(3), (4, 3)),
    np.ones(2, "f2"),
    np.array([1], np.longdouble) / 3,
]


def same(one: Any, other: Any) -> None:
    assert type(other) is type(one)
    assert repr(other.dtype) == repr(one.dtype)
    assert other.shape == one.shape
    assert other.tobytes() == one.tobytes()
    if type(one) is np.ndarray:
        fortran = one.flags.f_contiguous and not one.flags.c_contiguous
        assert other.flags.f_contiguous if fortran else other.flags.c_contiguous
        assert other.flags.writeable
        assert other.flags.owndata


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_arrays_come_back_exactly(array: Any) -> None:
    same(array, there_and_back(ARRAY, array))


@settings(deadline=None, max_examples=150)
@given(
    extra.arrays(
        extra.scalar_dtypes() | extra.array_dtypes(),
        extra.array_shapes(min_dims=0, min_side=0, max_side=4),
    )
)
def test_all_arrays_come_back_exactly(array: Any) -> None:
    assume(str(array.dtype).isascii())  # other names of fields are refused, see below
    same(array, there_and_back(ARRAY, array))
    same(array.T, there_and_back(ARRAY, array.T))


SCALARS = [
    np.float64(1.5), np.float32("nan"), np.int8(-1), np.bool_(True), np.str_("é"), np.bytes_(b"a"),
    np.datetime64("2020-01", "M"), np.timedelta64(3, "D"), np.complex64(1j), np.void(b"abc"),
    np.longdouble(1) / 3, np.zeros((), [("a", "i4")])[()],
]  # fmt: skip


@pytest.mark.parametrize("scalar", SCALARS, ids=lambda scalar: type(scalar).__name__)
def test_numbers_come_back_as_what_they_were(scalar: Any) -> None:
    assert default_materializers().for_object(scalar).id == "numpy"
    same(scalar, there_and_back(ARRAY, scalar))


@pytest.mark.asyncio
async def test_arrays_come_back_from_a_registry() -> None:
    array = np.random.default_rng(0).random((300, 400))
    same(array, await through_registry(array, np.ndarray))
    same(np.float32(2), await through_registry(np.float32(2)))
    arrays = {"b": array, "a": np.asfortranarray(array), 3: np.zeros(0), (1, "x"): np.array(1)}
    back = await through_registry(arrays)
    assert type(back) is dict
    assert list(back) == list(arrays)
    for key in arrays:
        same(arrays[key], back[key])


@pytest.mark.asyncio
async def test_an_array_that_changes_while_it_is_saved_is_stored_as_it_was() -> None:
    array = np.zeros(2_000_000)
    encoded = ARRAY.encode(array)
    array[:] = 1
    assert not ARRAY.decode(Encoded({"data.npy": bytes(encoded.files["data.npy"])}), None).any()
    async with AsyncRegistry("memory://") as registry:
        await registry.save("a", array)
        assert (await registry.load("a", verify="full")).all()


def test_what_numpy_wrote_is_what_numpy_reads(tmp_path: Any) -> None:
    for array in ARRAYS:
        (tmp_path / "a.npy").write_bytes(ARRAY.encode(array).files["data.npy"])
        assert np.load(tmp_path / "a.npy", allow_pickle=False).tobytes() == array.tobytes()


def test_a_dictionary_of_arrays_is_told_by_its_first_value() -> None:
    table = default_materializers()
    assert table.for_object({"a": np.ones(1)}).id == "numpy-dict"
    assert table.for_object({}).id == "json"
    assert table.for_object({"a": 1, "b": np.ones(1)}).id == "json"
    with pytest.raises(MaterializationError, match=r"\['n'\].*expected a plain numpy.ndarray"):
        DICT.encode({"a": np.ones(1), "n": 3})
    with pytest.raises(MaterializationError, match="too many"):
        DICT.encode(dict.fromkeys(range(10_001), np.ones(1)))
    with pytest.raises(MaterializationError, match="object"):
        DICT.encode({object(): np.ones(1)})


class Sub(np.ndarray):  # type: ignore[misc]
    pass


REFUSED = [
    (np.array([None]), r"object.*pickle"),
    (np.zeros(2, [("a", "i4"), ("b", "O")]), "pickle"),
    (np.zeros(2, np.dtype([("a", "i1"), ("b", "f8")], align=True)), "would come back as"),
    (np.rec.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")]).view(np.ndarray), "come back as"),
    (np.zeros(1, [("\u4e2d", "i4")]), "Latin-1"),
    (np.zeros(1, [(f"{i:0100d}", "i4") for i in range(800)]), "too many fields"),
    (np.zeros(1, np.dtype("i4", metadata={"a": 1})), "metadata"),
    (np.zeros(1, np.dtype([("a", np.dtype("i4", metadata={"a": 1}))])), "metadata"),
    (np.rec.array([(1,)], dtype=[("a", "i4")])[0], "numpy.record"),
]
if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType"):
    REFUSED.append((np.array(["a"], np.dtypes.StringDType()), r"strings of any length.*astype"))


@pytest.mark.parametrize(("obj", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_npy_does_not_hold_is_refused(obj: Any, message: str) -> None:
    with pytest.raises(MaterializationError, match=message):
        ARRAY.encode(obj)


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (np.ma.masked_array([1], [True]), r"MaskedArray: save a dict of its .data and its .mask"),
        (np.ones((1, 1)).view(np.matrix), r"matrix: .*np.asarray"),
        (np.rec.array([(1,)], dtype=[("a", "i4")]), r"recarray: .*np.asarray"),
        (np.ones(1).view(Sub), r"Sub: .*np.asarray"),
    ],
)
def test_subclasses_of_arrays_are_refused_by_name(obj: Any, message: str) -> None:
    with pytest.raises(MaterializationError, match=message):
        default_materializers().for_object(obj)
    with pytest.raises(MaterializationError, match=r"plain numpy\.ndarray"):
        ARRAY.encode(obj)
    assert default_materializers(allow_pickle=True).for_object(obj).id == "pickle"


def npy(descr: str, shape: str, data: bytes = b"", fortran: str = "False") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize(
    "data",
    [
        npy("'<f8'", "(1000000000000,)"),
        npy("'<f8'", "(4611686018427387904, 4611686018427387904)"),
        npy("'<U0'", "(99999999999999999999999,)"),
        npy("'<f8'", "(-1,)"),
        npy("'<f8'", "(-1, -1)", b"12345678"),
        npy("'|O'", "(1,)", b"cos\nsystem\n(S'true'\ntR."),
        npy("[('a', '|O')]", "(1,)", b"12345678"),
        npy("'<f8'", "(2,)", b"12345678"),
        npy("'<f8'", "(1,)", b"123456789"),
        npy("'<f8'", "1", b"12345678"),
        npy("'<U999999999'", "(1,)", b""),
        npy("'antigravity'", "(1,)", b"12345678"),
        npy("__import__('antigravity')", "(1,)", b"12345678"),
        npy("(" * 400 + ")" * 400, "()"),
        npy("'<f8'", "(True,)", b"12345678"),
        b"\x93NUMPY\x03\x00" + b"\0" * 20,
        b"\x93NUMPY\x02\x00" + b"\xff" * 20,
    ],
)
def test_hostile_files_are_refused_without_taking_memory(data: bytes) -> None:
    for scalar in (False, True):
        try:
            back = ARRAY.decode(Encoded({"data.npy": data}, {"scalar": scalar}), None)
        except MaterializationError:
            continue
        assert back.nbytes <= len(data)


def test_damaged_files_raise_nothing_else() -> None:
    no_other_error(ARRAY, ARRAY.encode(np.arange(10)), tries=300)
    no_other_error(ARRAY, ARRAY.encode(np.zeros(3, [("a", "i4"), ("b", "f8", (2,))])), tries=300)
    no_other_error(DICT, DICT.encode({"a": np.arange(3), "b": np.ones(2)}))


def test_a_key_of_very_many_digits_comes_back() -> None:
    assert [*there_and_back(DICT, {10**9_999: np.arange(3)})] == [10**9_999]


def test_the_work_is_known_beforehand() -> None:
    assert ARRAY.is_large(np.zeros(100_000))
    assert not ARRAY.is_large(np.zeros(100))
    assert ARRAY.is_large(3)
    assert DICT.is_large({"a": np.zeros(100_000)})
    assert not DICT.is_large({"a": np.zeros(100)})


def test_as_type_is_checked() -> None:
    with pytest.raises(MaterializationError, match="as_type"):
        there_and_back(ARRAY, np.ones(1), dict)
    with pytest.raises(MaterializationError, match="as_type"):
        there_and_back(DICT, {"a": np.ones(1)}, np.ndarray)
