"""Commands to the S3 that counts; what they mean is said in :mod:`tests.servers.counting_s3`."""

from __future__ import annotations

import json
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import ProxyHandler, build_opener

from tests.servers.objects import Quirk


class Entry(NamedTuple):
    """A request that was made: when, on a clock of the server's own, and what."""

    seconds: float
    method: str
    kind: str
    key: str


class Control:
    """Sends commands to the server at ``url``, each within ``seconds``; safe in any thread."""

    def __init__(self, url: str, seconds: float = 10.0) -> None:
        self.url = url
        self._seconds = seconds
        self._opener = build_opener(ProxyHandler({}))  # never by way of a proxy of the machine

    def reset(self) -> None:
        """Forget the log and every command; hanging requests go on. Objects stay."""
        self._send("reset")

    def log(self) -> list[Entry]:
        """The requests since the last reset, in the order they arrived in."""
        return [Entry(*each) for each in self._send("log")["requests"]]

    def peak(self) -> int:
        """How many requests there were at once, at the most, since the last reset."""
        return int(self._send("log")["peak"])

    def delay(self, ms: float) -> None:
        """Let every request take that many milliseconds longer."""
        self._send("delay", ms=ms)

    def fail(self, n: int = 1, status: int = 503, match: str = "") -> None:
        """Answer the next ``n`` that match with that status, and do nothing."""
        self._send("fail", n=n, status=status, match=match)

    def hang(self, match: str = "") -> None:
        """Answer nothing to requests that match, until :meth:`release` or :meth:`reset`."""
        self._send("hang", match=match)

    def release(self) -> None:
        """Let hanging requests go on, and those to come."""
        self._send("release")

    def lose(self, n: int = 1, match: str = "") -> None:
        """Carry out the next ``n`` that match, and break the connection instead of answering.

        A client on aiohttp repeats a request once by itself then; two make it fail.
        """
        self._send("lose", n=n, match=match)

    def conflict(self, n: int = 1, match: str = "") -> None:
        """Answer the next ``n`` conditional writes that match with 409."""
        self._send("conflict", n=n, match=match)

    def be(self, quirk: Quirk, on: bool = True) -> None:
        """Give every bucket a quirk, or take it away again."""
        self._send("be", quirk=quirk.value, on=int(on))

    def _send(self, verb: str, **query: Any) -> Any:
        target = f"{self.url}/__control__/{verb}?{urlencode(query)}"
        with self._opener.open(target, timeout=self._seconds) as answer:
            return json.loads(answer.read())
