"""Progress as bars, in terminals and in notebooks; an extra: ``asyncstore[progress]``."""

from __future__ import annotations

from typing import Any

from asyncstore.progress import ProgressEvent

try:
    from tqdm.auto import tqdm
except ImportError as error:
    raise ImportError("progress bars need tqdm: pip install 'asyncstore[progress]'") from error

_Bar: Any = tqdm


class ProgressBars:
    """Draws a bar for each operation under way; to be given as ``on_progress``.

    One may serve any number of operations, at once and one after the other, as long as those that
    run at once differ in kind or key. Used as a context manager it takes away, in the end, the
    bars of those that failed. ``options`` go to every bar of tqdm, which chooses the form that a
    terminal or a notebook can show. Importing this module without tqdm raises ImportError, which
    names the extra.
    """

    def __init__(self, **options: Any) -> None:
        self._options = {"unit": "B", "unit_scale": True, "unit_divisor": 1024} | options
        self._bars: dict[tuple[str, str], Any] = {}

    def __call__(self, event: ProgressEvent, /) -> None:
        """Draw the event."""
        at = (event.operation, event.object)
        bar = self._bars.get(at)
        if bar is None:
            label = f"{event.operation} {event.object}"
            bar = self._bars[at] = _Bar(desc=label, total=event.total, **self._options)
        bar.total = event.total
        bar.update(event.bytes - bar.n)
        if event.done:
            del self._bars[at]
            bar.close()

    def close(self) -> None:
        """Take away the bars of operations that have not succeeded."""
        while self._bars:
            _, bar = self._bars.popitem()
            bar.close()

    def __enter__(self) -> ProgressBars:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
