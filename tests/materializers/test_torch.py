"""PyTorch tensors and state dicts. PyTorch is large: where it is missing this is skipped."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest

from asyncstore.errors import MaterializationError
from asyncstore.materializers import Encoded, TorchMaterializer, default_materializers
from tests.materializers.support import no_other_error, stored, there_and_back, through_registry

try:
    import torch
except (ImportError, OSError) as error:  # its libraries may be missing, too
    pytest.skip(f"torch is not installed: {error}", allow_module_level=True)
pytest.importorskip("safetensors.torch", reason="safetensors is not installed")

TORCH = TorchMaterializer()


def same(one: Any, other: Any) -> None:
    assert type(other) is type(one)
    if isinstance(one, torch.Tensor):
        assert other.dtype == one.dtype
        assert other.shape == one.shape
        assert torch.equal(one.isnan(), other.isnan())
        assert torch.equal(one.nan_to_num() if one.is_floating_point() else one,
                           other.nan_to_num() if one.is_floating_point() else other)  # fmt: skip
        return
    assert list(other) == list(one)
    for key in one:
        same(one[key], other[key])
    assert getattr(other, "_metadata", None) == getattr(one, "_metadata", None)


TENSORS = [
    torch.arange(6).reshape(2, 3),
    torch.arange(6.0).reshape(2, 3).t(),
    torch.arange(10)[::3],
    torch.arange(3.0).expand(2, 3),
    torch.tensor(3),
    torch.zeros(0, 3),
    torch.tensor([1.5, float("nan"), float("inf")], dtype=torch.bfloat16),
    torch.ones(2, dtype=torch.float16),
    torch.tensor([True, False]),
    torch.tensor([255], dtype=torch.uint8),
    torch.tensor([1 + 2j], dtype=torch.complex64).conj(),
]


@pytest.mark.parametrize("tensor", TENSORS, ids=lambda one: f"{one.dtype}{tuple(one.shape)}")
def test_tensors_come_back_exactly(tensor: Any) -> None:
    assert default_materializers().for_object(tensor).id == "torch"
    back = there_and_back(TORCH, tensor)
    same(tensor, back)
    assert back.is_contiguous()
    assert not back.requires_grad


@pytest.mark.asyncio
async def test_state_dicts_come_back_in_their_order_with_their_versions() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(300, 4), torch.nn.BatchNorm1d(4), torch.nn.ReLU())
    state = net.state_dict()
    back = await through_registry(state, OrderedDict)
    same(state, back)
    assert type(back._metadata) is OrderedDict
    net.load_state_dict(back)
    for empty in (torch.nn.ReLU().state_dict(), OrderedDict(a=torch.ones(1))):
        same(empty, there_and_back(TORCH, empty))


@pytest.mark.asyncio
async def test_dicts_of_tensors_come_back() -> None:
    tensors = {
        "z": torch.ones(2),
        "a": torch.zeros(0),
        "": torch.tensor(1),
        "\u00e9": torch.ones(1),
    }
    assert default_materializers().for_object(tensors).id == "torch"
    same(tensors, await through_registry(tensors))
    same(tensors["z"], await through_registry(tensors["z"], torch.Tensor))


def test_shared_memory_is_stored_once_and_shared_again() -> None:
    weight = torch.zeros(1000)
    encoded = TORCH.encode({"encoder": weight, "decoder": weight.detach()})
    assert len(encoded.files["data.safetensors"]) < 5000
    back = TORCH.decode(stored(encoded), None)
    back["encoder"][0] = 5
    assert back["decoder"][0] == 5
    halves = torch.arange(4.0)
    same(
        {"a": halves[:2], "b": halves[2:]},
        there_and_back(TORCH, {"a": halves[:2], "b": halves[2:]}),
    )


ONES = torch.ones(3)
REFUSED: list[tuple[Any, str]] = [
    ({"a": ONES, "b": ONES[1:]}, r"\['b'\].*shares part of its memory with \['a'\].*clone"),
    ({"a": torch.nn.Parameter(ONES)}, r"\['a'\].*Parameter.*detach"),
    ({"a": torch.ones(1, requires_grad=True)}, r"\['a'\].*gradient.*detach"),
    ({"a": ONES, "epoch": 1}, r"\['epoch'\].*not a int"),
    ({1: ONES}, r"key 1.*str"),
    ({"\ud800": ONES}, "key"),
    ({"__metadata__": ONES}, "__metadata__"),
    ({"a": ONES.to_sparse()}, r"sparse.*to_dense"),
    ({"a": torch.zeros(1, dtype=torch.complex128)}, "complex128"),
    ({"a": torch.zeros(1, device="meta")}, "meta"),
    ([ONES], "expected a torch.Tensor or a dict"),
]


@pytest.mark.parametrize(("obj", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_safetensors_does_not_hold_is_refused_by_key(obj: Any, message: str) -> None:
    with pytest.raises(MaterializationError, match=message):
        TORCH.encode(obj)


def test_other_classes_are_refused_with_advice() -> None:
    table = default_materializers()
    with pytest.raises(MaterializationError, match=r"Linear: save its \.state_dict\(\)"):
        table.for_object(torch.nn.Linear(1, 1))
    with pytest.raises(MaterializationError, match=r"Parameter: save its \.detach\(\)"):
        table.for_object(torch.nn.Parameter(ONES))
    named = OrderedDict(a=ONES)
    named.more = 1  # type: ignore[attr-defined]
    with pytest.raises(MaterializationError, match="attribute 'more'"):
        TORCH.encode(named)


def test_damaged_files_raise_nothing_else() -> None:
    no_other_error(TORCH, TORCH.encode({"a": ONES, "b": ONES, "c": torch.ones(2, 2)}), tries=150)
    huge = b'{"a":{"dtype":"F32","shape":[1000000000000],"data_offsets":[0,4000000000000]}}'
    files = dict(stored(TORCH.encode({"a": ONES})).files)
    files["data.safetensors"] = len(huge).to_bytes(8, "little") + huge
    with pytest.raises(MaterializationError):
        TORCH.decode(Encoded(files), None)
