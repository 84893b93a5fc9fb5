"""Pickle, for registries that were opened with ``allow_pickle=True`` and no others.

Loading a pickle runs whatever code it holds. Everything else in asyncstore is safe to load from
people one does not trust; this is not.
"""

from __future__ import annotations

import pickle
from typing import Any, Final

from asyncstore.errors import MaterializationError
from asyncstore.materializers.base import Encoded

_FILE: Final = "data.pkl"


class PickleMaterializer:
    """Any object that pickles. Its id is refused wherever pickle was not allowed."""

    id = "pickle"
    types: tuple[type, ...] = ()

    def accepts(self, kind: type) -> bool:
        """Whatever nothing else takes."""
        return True

    def is_large(self, obj: Any) -> bool:
        """Always: nobody knows what an object's own pickling does."""
        return True

    def encode(self, obj: Any) -> Encoded:
        """Pickle it."""
        try:
            return Encoded({_FILE: pickle.dumps(obj, protocol=5)})
        except Exception as error:  # an object's own __reduce__ may raise anything
            raise MaterializationError(
                f"{type(obj).__module__}.{type(obj).__qualname__} does not pickle: {error}"
            ) from error

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """Unpickle it, which runs what it holds; ``as_type`` is checked, not converted to."""
        try:
            obj = pickle.loads(encoded.files[_FILE])
        except Exception as error:
            raise MaterializationError(f"the pickle cannot be loaded: {error!r:.500}") from error
        if as_type is not None and not isinstance(obj, as_type):
            raise MaterializationError(
                f"the object is a {type(obj).__qualname__}, and as_type={as_type.__qualname__}"
            )
        return obj
