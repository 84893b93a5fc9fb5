"""Several processes on one prefix of Ceph, every other one by way of the other gateway."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from asyncstore import AsyncRegistry
from asyncstore.backends.s3 import S3Backend
from asyncstore.testing import RecordingBackend
from tests.rigs.processes import Answer, Job
from tests.servers.ceph import Ceph
from tests.support import s3_uri

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([__name__, "tests.rigs.processes", "aiobotocore.session"])

KEYS = {"access_key_id": Ceph.access_key, "secret_access_key": Ceph.secret_key}


def opened(url: str, prefix: str, **options: Any) -> AsyncRegistry:
    """A registry in the bucket of the tests."""
    return AsyncRegistry(s3_uri(url, prefix), **KEYS, **options)


def _child(job: Job, uri: str, options: dict[str, Any], number: int, argument: Any,
           barrier: Any, pipe: Connection) -> None:  # fmt: skip
    async def work() -> Answer:
        backend = RecordingBackend(S3Backend.from_uri(uri, **KEYS))
        registry = AsyncRegistry(backend, **options)
        await registry.has_object("x")  # whatever is slow only once is done before the barrier
        barrier.wait(60)
        answer = Answer()
        try:
            answer.results = await job(registry, number, argument)
        except Exception as error:
            answer.errors.append(f"{type(error).__name__}: {error}")
        answer.refused = sum(one.outcome in ("refused", "unknown") for one in backend.requests)
        await backend.aclose()
        return answer

    pipe.send(asyncio.run(work()))


def at_once(
    gateways: Sequence[str], prefix: str, jobs: Sequence[tuple[Job, Any]], **options: Any
) -> list[Answer]:
    """Run each job in a process of its own, all released by one barrier."""
    barrier = PROCESSES.Barrier(len(jobs))
    running = []
    for number, (job, argument) in enumerate(jobs):
        ours, theirs = PROCESSES.Pipe(duplex=False)
        uri = s3_uri(gateways[number % len(gateways)], prefix)
        process = PROCESSES.Process(
            target=_child,
            args=(job, uri, options, number, argument, barrier, theirs),
            daemon=True,
        )
        process.start()
        theirs.close()
        running.append((process, ours))
    answers = []
    try:
        for _, pipe in running:
            assert pipe.poll(100), "a process gave no answer within 100 s"
            answers.append(pipe.recv())
    finally:
        for process, pipe in running:
            pipe.close()
            process.join(10)
            if process.exitcode is None:
                process.kill()  # ours, by its process id
                process.join()
            process.close()
    return answers
