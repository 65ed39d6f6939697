"""Planes side by side in threads."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

VARIABLES = ("XOCTNORM_NUM_THREADS", "NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
"""Environment variables that limit the number of threads; the first that is set decides."""

_NAME = "xoctnorm"
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

    Threads live as long as the call, so that none is missing after a fork.
    """
    count = thread_count()
    if count == 1:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(count, thread_name_prefix=_NAME) as pool:
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
            pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Linear algebra in one thread: threads that share a small matrix spin while they wait for each other.

    Where other work keeps the CPUs busy, that took ten times as long. Bits do not depend on the number of CPUs either.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield
