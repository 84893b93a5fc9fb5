"""Turning the methods of an asynchronous class into those of a synchronous one, typed."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from asyncstore.backends.base import Buffer
from asyncstore.registry import AsyncRegistry, ObjectReader, ObjectWriter
from asyncstore.store import AsyncStore
from asyncstore.sync.loop import end, run

P = ParamSpec("P")
T = TypeVar("T")
A = TypeVar("A", bound="AsyncRegistry | AsyncStore")
Self = TypeVar("Self", bound="Face[Any]")


def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Any, P], T]:
    """The synchronous form of a coroutine method."""

    @functools.wraps(method)
    def call(self: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        plain: Callable[..., Coroutine[Any, Any, T]] = method
        return run(lambda: plain(self.asynchronous, *map(unwrapped, args), **kwargs))

    return call


def plain(method: Callable[Concatenate[Any, P], T]) -> Callable[Concatenate[Any, P], T]:
    """A method that waits for nothing, on the object behind the face."""

    @functools.wraps(method)
    def call(self: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> T:
        behind: Callable[..., T] = method
        return behind(self.asynchronous, *map(unwrapped, args), **kwargs)

    return call


def iterating(
    method: Callable[Concatenate[Any, P], AsyncIterator[T]],
) -> Callable[Concatenate[Any, P], Iterator[T]]:
    """The synchronous form of an asynchronous generator method: as lazy as that is."""

    @functools.wraps(method)
    def call(self: Face[Any], /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return iterated(method(self.asynchronous, *args, **kwargs))

    return call


def iterated(items: AsyncIterator[T]) -> Iterator[T]:
    """Pull an asynchronous iterator, one item a call."""
    generator: Any = items
    try:
        while True:
            try:
                item = run(generator.__anext__)
            except StopAsyncIteration:
                return
            yield item
    finally:
        end(generator.aclose)


def unwrapped(value: Any) -> Any:
    """The asynchronous object behind a face; anything else as it is."""
    return value.asynchronous if isinstance(value, Face) else value


class Face(Generic[A]):
    """A synchronous face: the dict protocol, and ``with`` to close it in the end."""

    def __init__(self, asynchronous: A) -> None:
        self._asynchronous = asynchronous

    @property
    def asynchronous(self) -> A:
        """The asynchronous object behind this one; it belongs to the background loop."""
        return self._asynchronous

    def close(self) -> None:
        """Let go of threads and connections; the next use opens them again."""
        run(self._asynchronous.aclose)

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._asynchronous).removeprefix("Async")

    def __bool__(self) -> bool:
        return True  # also where it is empty: "if store:" asks whether there is one

    def __getitem__(self, key: str) -> Any:
        return run(lambda: self._asynchronous.load(key))

    def __setitem__(self, key: str, obj: Any) -> None:
        run(lambda: self._asynchronous.save(key, obj))

    def __delitem__(self, key: str) -> None:
        run(functools.partial(self._asynchronous.delete, key))

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and run(lambda: self._asynchronous.has_object(key))

    def __len__(self) -> int:
        return run(self._asynchronous.count)

    def __iter__(self) -> Iterator[str]:
        return iterated(self._asynchronous.iter_objects())

    @contextmanager
    def open_reader(
        self, key: str, version: str | None = None, **options: Any
    ) -> Generator[Reader]:
        """The raw bytes of an object; see the asynchronous method."""
        with _entered(self._asynchronous.open_reader(key, version, **options)) as reader:
            yield Reader(reader)

    @contextmanager
    def open_writer(self, key: str, **options: Any) -> Generator[Writer]:
        """Write an object's bytes; committed on a clean exit, else nothing is left."""
        with _entered(self._asynchronous.open_writer(key, **options)) as writer:
            yield Writer(writer)


@contextmanager
def _entered(manager: AbstractAsyncContextManager[T]) -> Generator[T]:
    """An asynchronous context manager, entered and left on the background loop."""
    exits: Any = manager
    value = run(exits.__aenter__)
    try:
        yield value
    except GeneratorExit as error:  # left without its "with" ever being ended
        end(functools.partial(exits.__aexit__, GeneratorExit, error, error.__traceback__))
        raise
    except BaseException as error:
        kind, trace = type(error), error.__traceback__
        if not run(functools.partial(exits.__aexit__, kind, error, trace)):
            raise
    else:
        run(lambda: exits.__aexit__(None, None, None))


class Reader:
    """The synchronous form of :class:`asyncstore.ObjectReader`."""

    def __init__(self, reader: ObjectReader) -> None:
        self._reader = reader
        self.name, self.version, self.size = reader.name, reader.version, reader.size
        self.hash = reader.hash
        self.metadata: Mapping[str, Any] = reader.metadata

    def read(self, size: int = -1) -> bytes:
        """The next bytes, all that are left by default."""
        return run(lambda: self._reader.read(size))

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from ``start`` up to ``end``."""
        return run(lambda: self._reader.read_range(start, end))

    def iter_chunks(self, size: int = 1024 * 1024) -> Iterator[bytes]:
        """The bytes from the position on, ``size`` at a time."""
        return iterated(self._reader.iter_chunks(size))

    def seek(self, position: int) -> int:
        """Go to a byte position."""
        return self._reader.seek(position)

    def tell(self) -> int:
        """The position of the next byte."""
        return self._reader.tell()


class Writer:
    """The synchronous form of :class:`asyncstore.ObjectWriter`."""

    def __init__(self, writer: ObjectWriter) -> None:
        self._writer = writer

    def write(self, data: Buffer) -> None:
        """Take the next bytes."""
        run(lambda: self._writer.write(data))

    @property
    def version(self) -> str | None:
        """The version written, once it is committed."""
        return self._writer.version
