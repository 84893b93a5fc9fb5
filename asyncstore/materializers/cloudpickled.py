"""cloudpickle, behind the same gate as pickle and only where it is asked for.

It also takes functions and classes of a notebook, which pickle would only store by name. Loading
runs whatever code the bytes hold.
"""

from __future__ import annotations

from typing import Any, Final

from asyncstore.errors import MaterializationError
from asyncstore.materializers._library import decoding, library
from asyncstore.materializers._tags import type_name
from asyncstore.materializers.base import Encoded
from asyncstore.materializers.basic import checked, only_file

_FILE: Final = "data.pkl"


class CloudpickleMaterializer:
    """Any object that cloudpickle takes. Its id is refused wherever pickle was not allowed."""

    id = "cloudpickle"
    types: tuple[type, ...] = ()

    def accepts(self, kind: type) -> bool:
        """Never by itself: save with ``materializer="cloudpickle"``."""
        return False

    def is_large(self, obj: Any) -> bool:
        """Always: nobody knows what an object's own pickling does."""
        return True

    def is_slow(self, encoded: Encoded) -> bool:
        """Always, for the same reason."""
        return True

    def encode(self, obj: Any) -> Encoded:
        """Pickle it."""
        cloudpickle = library("cloudpickle", extra="cloudpickle")
        try:
            return Encoded({_FILE: cloudpickle.dumps(obj)})
        except Exception as error:  # an object's own __reduce__ may raise anything
            raise MaterializationError(
                f"{type_name(type(obj))} does not pickle: {error!r:.500}"
            ) from error

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """Unpickle it, which runs what it holds; ``as_type`` is checked, not converted to."""
        data = only_file(encoded, _FILE)
        cloudpickle = library("cloudpickle", extra="cloudpickle")
        with decoding("pickle"):
            return checked(cloudpickle.loads(data), as_type)
