"""What a materializer is: the two ways between an object and the files that are stored of it.

A materializer is found by a registered *id*, never by a module path: loading an object imports
nothing that its stored metadata names. Encoding and decoding are plain functions without I/O; the
registry runs them in a worker thread when the object is large.

A materializer may have more than :class:`Materializer` asks for: see :class:`TakesContainers`,
:class:`Advises` and :class:`DecodesSlowly`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final, Protocol, cast, runtime_checkable

from asyncstore.digests import Buffer
from asyncstore.errors import MaterializationError
from asyncstore.materializers.ondisk import LocalFile

PICKLES: Final = frozenset({"pickle", "cloudpickle", "dill", "joblib"})
"""Ids of formats that run code on loading."""

Params = Mapping[str, Any]
"""Small JSON values that a materializer keeps beside its files."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An object as files: relative path -> bytes, with the parameters that decoding needs.

    ``on_disk`` are files that are read while they are stored, ``dirs`` are empty folders. What
    encoding answers must not change any more: an array that the caller goes on writing to while
    it is hashed and sent has to be copied. Decoding is given ``bytes``.
    """

    files: Mapping[str, Buffer]
    params: Params = field(default_factory=dict[str, Any])
    dirs: tuple[str, ...] = ()
    on_disk: Mapping[str, LocalFile] = field(default_factory=dict[str, LocalFile])


@runtime_checkable
class Materializer(Protocol):
    """Turns objects of some types into files and back, exactly or not at all."""

    @property
    def id(self) -> str:
        """The name that is stored with every object: never reused for another format."""
        ...

    @property
    def types(self) -> tuple[type, ...]:
        """The types it is chosen for when ``save`` is given no materializer."""
        ...

    def accepts(self, kind: type) -> bool:
        """Whether it also takes ``kind``, which is not in ``types``: a subclass, say.

        Materializers with a nearer base class of ``kind`` in their ``types`` are asked first.
        """
        ...

    def is_large(self, obj: Any) -> bool:
        """Whether encoding ``obj`` would hold up the event loop. Must itself be quick."""
        ...

    def encode(self, obj: Any) -> Encoded:
        """Turn ``obj`` into files.

        Raises :class:`~asyncstore.errors.MaterializationError` where decoding the files would not
        give back an equal object of the same type: an object is refused at save, or comes back.
        """
        ...

    def decode(self, encoded: Encoded, as_type: type | None) -> Any:
        """Turn files back into the object; ``as_type`` is what the caller of ``load`` asked for.

        The files have been verified, but whoever wrote them may be hostile: raises
        :class:`~asyncstore.errors.MaterializationError` for whatever does not fit, and never
        imports or runs what the files name.
        """
        ...


@runtime_checkable
class TakesContainers(Protocol):
    """What a materializer may have besides: a look into containers, whose type tells too little.

    A plain dictionary of arrays, say, is a ``dict`` like any other. Where ``takes`` says yes, the
    materializer is chosen before the one for the container's type.
    """

    @property
    def containers(self) -> tuple[type, ...]:
        """The exact types of the containers that it looks into."""
        ...

    def takes(self, obj: Any) -> bool:
        """Whether it is for this container. Must be quick: a look at its first item."""
        ...


@runtime_checkable
class Advises(Protocol):
    """What a materializer may have besides: advice on types near to its own that it refuses."""

    def advice(self, kind: type) -> str | None:
        """What to do with an object of this type, which nothing takes; None if that is unknown."""
        ...


@runtime_checkable
class DecodesSlowly(Protocol):
    """What a materializer may have besides: decoding that is slow whatever the bytes' number."""

    def is_slow(self, encoded: Encoded) -> bool:
        """Whether decoding would hold up the event loop although there are few bytes."""
        ...


class Materializers:
    """An immutable table of materializers by id. Later ones win over earlier ones.

    It is also the one gate for pickle: without ``allow_pickle`` no id in :data:`PICKLES` is
    answered, whoever registered it, neither for saving nor for loading.
    """

    def __init__(
        self,
        materializers: Iterable[Materializer] = (),
        *,
        allow_pickle: bool = False,
        problems: Iterable[str] = (),
    ) -> None:
        self._allow_pickle = allow_pickle
        self._problems = tuple(problems)
        self._by_id: dict[str, Materializer] = {}
        for materializer in materializers:
            if not isinstance(materializer, Materializer):
                raise MaterializationError(
                    f"{materializer!r} is no materializer: it needs id, types, accepts, is_large, "
                    "encode and decode (see asyncstore.materializers.Materializer)"
                )
            self._by_id.pop(materializer.id, None)
            self._by_id[materializer.id] = materializer
        self._latest_first = [one for one in reversed(self) if self._is_allowed(one)]
        self._inside: list[tuple[TakesContainers, Materializer]] = [
            (one, one) for one in self._latest_first if isinstance(one, TakesContainers)
        ]

    def __reversed__(self) -> Iterator[Materializer]:
        return reversed(self._by_id.values())

    def __iter__(self) -> Iterator[Materializer]:
        return iter(self._by_id.values())

    def extended(self, materializers: Iterable[Materializer]) -> Materializers:
        """A table with these added; a known id is replaced."""
        added = list(materializers)
        if not added:
            return self
        return Materializers(
            [*self, *added], allow_pickle=self._allow_pickle, problems=self._problems
        )

    def preceded(
        self, materializers: Iterable[Materializer], problems: Iterable[str]
    ) -> Materializers:
        """A table with these where they lose to all others, and no known id is replaced.

        They win against asyncstore's own pickle alone, which takes anything.

        ``problems`` go into the message when nothing is found.
        """
        added = [one for one in materializers if one.id not in self._by_id]
        known = list(self)
        pickles = list(takewhile(lambda one: one.id in PICKLES, known))  # only our own come first
        return Materializers(
            [*pickles, *added, *known[len(pickles) :]],
            allow_pickle=self._allow_pickle,
            problems=[*self._problems, *problems],
        )

    def by_id(self, id: str) -> Materializer:
        """The materializer of a stored id, or a MaterializationError that says what to do."""
        if id in PICKLES and not self._allow_pickle:
            raise MaterializationError(
                f"{id} is refused, because loading it runs code that the object holds: open the "
                "registry with allow_pickle=True if you trust everyone who can write to it"
            )
        try:
            return self._by_id[id]
        except KeyError:
            raise MaterializationError(
                f"no materializer with the id {id!r:.80} is registered (registered: "
                f"{', '.join(sorted(self._by_id))}); open the registry with materializers=[...] "
                f"holding one that has this id{self._said_problems()}"
            ) from None

    def for_object(self, obj: Any, chosen: str | Materializer | None = None) -> Materializer:
        """The chosen materializer, else one for the exact type, a base class, or by ``accepts``."""
        if isinstance(chosen, str):
            return self.by_id(chosen)
        if chosen is not None:
            given: object = chosen
            if isinstance(given, type) or not isinstance(given, Materializer):
                raise MaterializationError(
                    f"materializer={chosen!r:.80}: expected the id of a registered one, or a "
                    "materializer (see asyncstore.materializers.Materializer)"
                )
            self.by_id(chosen.id)  # what is saved must be loadable by this registry
            return chosen
        kind = cast("type[object]", type(obj))
        for looking, materializer in self._inside:
            if kind in looking.containers and looking.takes(obj):
                return materializer
        for materializer in self._latest_first:
            if kind in materializer.types:
                return materializer
        for base in kind.__mro__[1:]:
            for materializer in self._latest_first:
                if base in materializer.types and materializer.accepts(kind):
                    return materializer
        for materializer in self._latest_first:
            if materializer.accepts(kind):
                return materializer
        raise MaterializationError(_unknown(kind, self._latest_first) + self._said_problems())

    def _said_problems(self) -> str:
        return "".join(f"; note that {problem}" for problem in self._problems)

    def _is_allowed(self, materializer: Materializer) -> bool:
        return self._allow_pickle or materializer.id not in PICKLES


def _unknown(kind: type, materializers: Iterable[Materializer]) -> str:
    what = f"no materializer for {kind.__module__}.{kind.__qualname__}"
    for materializer in materializers:
        advice = materializer.advice(kind) if isinstance(materializer, Advises) else None
        if advice is not None:
            return f"{what}: {advice}"
    taken = {known for materializer in materializers for known in materializer.types}
    near = next((base for base in kind.__mro__[1:-1] if base in taken), None)
    hint = f"convert it to {near.__name__} first, " if near is not None else ""
    return (
        f"{what}: {hint}pass materializer=..., or open the registry with materializers=[...] "
        "holding one for this type"
    )
