"""PyTorch tensors, state dicts and dictionaries of tensors, as safetensors."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import Any, Final

from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import decoding, encoding, is_loaded, library, loaded
from asyncstore.materializers._tags import type_name
from asyncstore.materializers.arrays import first_value
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.basic import checked
from asyncstore.materializers.values import LARGE, decode_value, encode_value

_DATA: Final = "data.safetensors"
_REST: Final = "tensors.json"
_SINGLE: Final = "tensor"
_EXTRA: Final = "torch"
_KINDS: Final[dict[str, type]] = {"dict": dict, "ordered": OrderedDict}


class TorchMaterializer:
    """Tensors, and dictionaries whose values are all tensors, such as what ``state_dict()`` gives.

    Shape, dtype, values, the order of the keys, and the versions that modules note in a state dict
    come back. Tensors that are one and the same memory are stored once and share it again. **All
    come back on the CPU and contiguous**, wherever and however they were laid out.
    """

    id = "torch"
    containers: tuple[type, ...] = (dict, OrderedDict)

    @property
    def types(self) -> tuple[type, ...]:
        """Exactly the Tensor."""
        return loaded("torch", "Tensor")

    def accepts(self, kind: type) -> bool:
        """Never: a parameter would come back as a plain tensor."""
        return False

    def takes(self, obj: Any) -> bool:
        """A dictionary that begins with a tensor; the state dict of a module that has none."""
        tensors = loaded("torch", "Tensor")
        if not tensors:
            return False
        first = type(first_value(obj))
        return issubclass(first, tensors) or (not obj and hasattr(obj, "_metadata"))

    def advice(self, kind: type) -> str | None:
        """For modules, optimizers and parameters."""
        if issubclass(kind, (*loaded("torch.nn", "Module"), *loaded("torch.optim", "Optimizer"))):
            return "save its .state_dict(), and load that into a new one with load_state_dict"
        if issubclass(kind, loaded("torch", "Tensor")):
            return "save its .detach(), which is a plain tensor"
        return None

    def is_large(self, obj: Any) -> bool:
        """By bytes; always, before safetensors has been imported."""
        if not is_loaded("torch", "safetensors.torch"):
            return True
        tensors = list(obj.values()) if type(obj) in self.containers else [obj]
        if len(tensors) > 100:
            return True
        return sum(getattr(one, "nbytes", LARGE + 1) for one in tensors) > LARGE

    def is_slow(self, encoded: Encoded) -> bool:
        """As long as PyTorch has not been imported."""
        return not is_loaded("torch", "safetensors.torch")

    def encode(self, obj: Any) -> Encoded:
        """Refuses what safetensors cannot hold exactly, by its key."""
        torch = library("torch", extra=_EXTRA)
        safetensors = library("safetensors.torch", extra=_EXTRA)
        single = type(obj) is torch.Tensor
        pairs = [(_SINGLE, obj)] if single else _pairs(obj)
        for key, tensor in pairs:
            _require_plain(torch, _dtypes(safetensors), key, tensor)
        sources = _shared(pairs)
        with encoding("dict of tensors"):
            files = {
                _DATA: safetensors.save({
                    key: _contiguous(tensor) for key, tensor in pairs if sources[key] == key
                })
            }  # fmt: skip
        kind = "single" if single else "dict" if type(obj) is dict else "ordered"
        rest = {"kind": kind, "tensors": list(sources.items()), "versions": _versions(obj)}
        return Encoded({_REST: encode_value(rest), **files})

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """The tensor or dictionary, on the CPU."""
        if set(encoded.files) != {_DATA, _REST}:
            raise MaterializationError(f"expected the files {_DATA!r} and {_REST!r} of tensors")
        library("torch", extra=_EXTRA)
        safetensors = library("safetensors.torch", extra=_EXTRA)
        rest = decode_value(bytes(encoded.files[_REST]))
        with decoding("dict of tensors"):
            tensors = safetensors.load(bytes(encoded.files[_DATA]))
            found: Any = {}
            for key, source in rest["tensors"]:
                found[key] = tensors[source] if key == source else tensors[source].detach()
            if rest["kind"] == "single":
                return checked(found[_SINGLE], as_type)
            found = _KINDS[rest["kind"]](found)
            if rest["versions"] is not None:
                found._metadata = _to_ordered(rest["versions"])
            return checked(found, as_type)


def _pairs(obj: Any) -> list[tuple[str, Any]]:
    if type(obj) not in (dict, OrderedDict):
        raise MaterializationError(
            f"expected a torch.Tensor or a dict of them, not a {type_name(type(obj))}: save "
            "dict(...) of it"
        )
    pairs = list(obj.items())
    for key, _ in pairs:
        if type(key) is not str or key == "__metadata__" or not _is_text(key):
            raise MaterializationError(
                f"cannot save the key {key!a:.80}: the keys of tensors are text (str), and "
                "'__metadata__' is taken by safetensors: rename it"
            )
    return pairs


def _is_text(key: str) -> bool:
    try:
        key.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _require_plain(torch: Any, dtypes: set[Any], key: str, tensor: Any) -> None:
    """Raise MaterializationError for what is no dense tensor with values."""
    what = f"cannot save [{key!a:.80}]"
    if type(tensor) is not torch.Tensor:
        raise MaterializationError(
            f"{what}: expected a torch.Tensor, not a {type_name(type(tensor))}: tensors only go "
            "into one dict, so save the rest by itself (a parameter as its .detach())"
        )
    if tensor.requires_grad:
        raise MaterializationError(
            f"{what}: it requires a gradient, which would be lost: save its .detach()"
        )
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested:
        raise MaterializationError(
            f"{what}: its layout is {tensor.layout}, or quantized or nested: save what its "
            ".to_dense() or .dequantize() answers"
        )
    if tensor.device.type == "meta":
        raise MaterializationError(f"{what}: it is on the device 'meta' and has no values")
    if tensor.dtype not in dtypes:
        raise MaterializationError(
            f"{what}: safetensors has no dtype {tensor.dtype}: convert it with .to(...)"
        )


def _dtypes(safetensors: Any) -> set[Any]:
    """The dtypes that safetensors writes and reads."""
    return {kind for kind in safetensors._TYPES.values() if kind in safetensors._SIZE}


def _contiguous(tensor: Any) -> Any:
    return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()


def _shared(pairs: list[tuple[str, Any]]) -> dict[str, str]:
    """For each key, the first key with the very same memory, often itself.

    Raises MaterializationError where tensors overlap in part: a change of one would change the
    other before saving and not after loading.
    """
    spans: list[tuple[str, int, int, str, Any]] = []
    sources: dict[str, str] = {}
    firsts: dict[Any, str] = {}
    for key, tensor in pairs:
        if tensor.numel() == 0:
            sources[key] = key
            continue
        same = (
            str(tensor.device), tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride(),
            tensor.is_conj(), tensor.is_neg(),
        )  # fmt: skip
        sources[key] = firsts.setdefault(same, key)
        if sources[key] == key:
            steps = zip(tensor.shape, tensor.stride(), strict=True)
            reach = sum((length - 1) * step for length, step in steps) + 1
            start = tensor.data_ptr()
            spans.append((str(tensor.device), start, start + reach * tensor.itemsize, key, tensor))
    spans.sort(key=lambda span: span[:3])
    for one, other in pairwise(spans):
        if one[0] == other[0] and other[1] < one[2]:
            raise MaterializationError(
                f"cannot save [{other[3]!a:.80}]: it shares part of its memory with "
                f"[{one[3]!a:.80}], which would be lost: save its .clone()"
            )
    return sources


def _versions(obj: Any) -> Any:
    """What modules note in a state dict of theirs, as plain dictionaries; None if nothing."""
    extra = dict(getattr(obj, "__dict__", {}))
    noted = extra.pop("_metadata", None)
    if extra:
        raise MaterializationError(
            f"the dict of tensors has the attribute {next(iter(extra))!r}, which would not come "
            "back: remove it"
        )
    if noted is None:
        return None
    if type(noted) is not OrderedDict or any(type(one) is not dict for one in noted.values()):
        raise MaterializationError("the _metadata of the state dict is none that PyTorch makes")
    return dict(noted)


def _to_ordered(versions: Any) -> Any:
    if type(versions) is not dict:
        raise ValueError("its versions do not fit")
    return OrderedDict(versions)
