"""Planes side by side in threads."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

VARIABLES = ("XOCTNORM_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables that limit the number of threads; the first that is set decides."""

_NAME = "xoctnorm"
_begun = threading.local()  # of every thread: the pool that it shares

_POOLS = (_NAME, "ThreadPoolExecutor", "Dask-")  # names that threads of pools begin with


def thread_count() -> int:
    """Number of threads: what the environment says, else the CPUs that this process may use; 1 inside a pool.

    In a thread of a pool, as of dask, the other CPUs have work already.
    """
    if threading.current_thread().name.startswith(_POOLS):
        return 1
    for name in VARIABLES:
        number = os.environ.get(name, "")
        if number.isdecimal() and int(number) > 0:
            return int(number)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results of a function that releases the GIL, in the order of the items, a few of which wait for their turn.

    Threads live as long as this call, or as the one around it that has begun `shared_threads`, so that none is missing
    after a fork.
    """
    count = thread_count()
    if count == 1:
        yield from map(function, items)
        return
    shared = _shared()
    with ThreadPoolExecutor(count, thread_name_prefix=_NAME) if shared is None else nullcontext(shared) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                del item  # which may hold much memory while the next is made
                if len(waiting) > 2 * count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # after an error, or Ctrl-C, what waits for its turn is not begun
            wait([future for future in waiting if not future.cancel()])


@contextmanager
def shared_threads() -> Iterator[None]:
    """Threads that all `in_threads` inside share: to start new ones for each takes time."""
    if _shared() is not None:
        yield
        return
    with ThreadPoolExecutor(thread_count(), thread_name_prefix=_NAME) as pool:
        _begun.pool, _begun.process = pool, os.getpid()
        try:
            yield
        finally:
            _begun.pool = None
            pool.shutdown(wait=False, cancel_futures=True)


def _shared() -> ThreadPoolExecutor | None:
    """Threads that the call around this one has begun; none after a fork, which has no threads."""
    pool: ThreadPoolExecutor | None = getattr(_begun, "pool", None)
    return pool if pool is not None and _begun.process == os.getpid() else None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Linear algebra in one thread: threads that share a small matrix spin while they wait for each other.

    Where other work keeps the CPUs busy, that took ten times as long. Bits do not depend on the number of CPUs either.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
