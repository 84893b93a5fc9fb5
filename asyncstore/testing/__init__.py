"""For testing: a conformance suite for backends, and backends that are slow, faulty or lying.

Public, for other people's backends and for tests of what is built on asyncstore. Needs nothing
that asyncstore itself does not need; the suite runs under pytest without a plugin.
"""

from asyncstore.backends.wrapper import Wrapper
from asyncstore.testing.backends import CheatingBackend, RecordingBackend, Request, SlowBackend
from asyncstore.testing.conformance import BackendConformance
from asyncstore.testing.faults import Fault, FaultyBackend, Mode

__all__ = [
    "BackendConformance",
    "CheatingBackend",
    "Fault",
    "FaultyBackend",
    "Mode",
    "RecordingBackend",
    "Request",
    "SlowBackend",
    "Wrapper",
]
