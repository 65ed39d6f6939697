"""One writer at a time: locks that go with the process that holds them, however it ends."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xoctnorm.provenance import now

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def lock(path: Path) -> Iterator[str | None]:
    """Hold a lock, which is a file; gives who has it where another has.

    The system takes a lock from a process that dies. Where a file system has no locks, none is held.
    """
    descriptor = None if fcntl is None else _opened(path)
    if descriptor is None:
        yield None
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 1000)
        os.close(descriptor)
        yield _described(holder)
        return
    except OSError:
        os.close(descriptor)
        yield None
        return
    try:
        os.ftruncate(descriptor, 0)
        os.write(
            descriptor, json.dumps({"process": os.getpid(), "host": socket.gethostname(), "since": now()}).encode()
        )
        yield None
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):  # other things are there
            path.parent.rmdir()
        fcntl.flock(descriptor, fcntl.LOCK_UN)  # for processes that were forked meanwhile, too
        os.close(descriptor)


def _opened(path: Path) -> int | None:
    try:
        path.parent.mkdir(exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None


def _described(holder: bytes) -> str:
    try:
        return "process {process} on {host}, since {since}".format(**json.loads(holder))
    except (KeyError, ValueError):  # it has only just begun
        return "another process"
