"""Progress of long work: a bar with the phase and the time that is left, on standard error.

Work announces itself with `job`, says what it is at with `phase`, and counts with `advance`. Outside of a job, and in
threads of workers, both do nothing. A bar appears after a second, so that short work shows none, and goes with the job.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from importlib.util import find_spec
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress

VARIABLE = "XOCTNORM_PROGRESS"

_AFTER = 1.0  # seconds until a bar appears

_chosen: bool | None = None
_job: ContextVar[_Job | None] = ContextVar("job", default=None)


class set_progress:  # noqa: N801  (it is called like a function)
    """Show progress bars or not, from now on, or inside a ``with``.

    By default long work shows a bar where standard error is a terminal, and in notebooks with ``ipywidgets``. Scripts
    whose standard error goes to a pipe or a file see nothing of it, and work in other threads shows none. The
    environment variable ``XOCTNORM_PROGRESS`` (``0`` or ``1``) says it from outside; what is set here comes first.

    Parameters
    ----------
    shown
        True or False; None for the default.

    Raises
    ------
    InputError
        For any other value.

    Examples
    --------
    >>> import xoctnorm
    >>> with xoctnorm.set_progress(False):
    ...     pass  # nothing shows here
    >>> xoctnorm.set_progress(None)  # as it is without a call
    set_progress(None)
    """

    def __init__(self, shown: bool | None) -> None:
        global _chosen
        if shown is not None and not isinstance(shown, bool):
            from xoctnorm.errors import raise_problems

            raise_problems("set_progress", [f"shown={shown!r}: needs True, False or None, the default"])
        self._shown, self._before = shown, _chosen
        _chosen = shown

    def __enter__(self) -> None:
        """Keep what was set."""

    def __exit__(self, *error: object) -> None:
        global _chosen
        _chosen = self._before

    def __repr__(self) -> str:
        return f"set_progress({self._shown!r})"


def job(name: str, total: int) -> AbstractContextManager[object]:
    """Work that takes `total` steps, as planes to be read; part of the job around it where there is one."""
    return nullcontext() if _job.get() is not None or not wanted() else _Job(name, total)


def phase(name: str) -> None:
    """Say what the job is at."""
    if (current := _job.get()) is not None:
        current.phase(name)


def advance(steps: int = 1) -> None:
    """Count steps that are done."""
    if (current := _job.get()) is not None:
        current.advance(steps)


@contextmanager
def computing(name: str) -> Iterator[None]:
    """Count the tasks that dask computes inside, in this process, in a job of their own."""
    from dask.callbacks import Callback

    if not wanted() or _job.get() is not None:
        yield
        return
    with _Job(name, 0) as current:

        def begin(_graph: Any, state: dict[str, Any]) -> None:
            current.extend(sum(len(state[tasks]) for tasks in ("ready", "waiting")))

        with Callback(start_state=begin, posttask=lambda *_: current.advance(1)):
            yield


def wanted() -> bool:
    """Whether bars are shown: as set, as the environment says, or because somebody is looking."""
    if threading.current_thread() is not threading.main_thread():  # several bars at a time would be a mess
        return False
    if _chosen is not None:
        return _chosen
    if os.environ.get(VARIABLE, "") in ("0", "1"):
        return os.environ[VARIABLE] == "1"
    if "ipykernel" in sys.modules:  # without widgets a notebook would fill with lines
        return find_spec("ipywidgets") is not None
    return sys.stderr is not None and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class _Job:
    """A bar, once there is reason to show it."""

    def __init__(self, name: str, total: int) -> None:
        self._name, self._total, self._done, self._phase = name, total, 0, ""
        self._began = time.monotonic()
        self._bar: Progress | None = None

    def __enter__(self) -> _Job:
        self._token = _job.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _job.reset(self._token)
        if self._bar is not None:
            self._bar.stop()

    def phase(self, name: str) -> None:
        self._phase = name
        self._show()

    def extend(self, steps: int) -> None:
        self._total += steps

    def advance(self, steps: int) -> None:
        # Some planes may be read twice; what is over only shows when it is.
        self._done = min(self._done + steps, self._total)
        self._show()

    def _show(self) -> None:
        if self._bar is None:
            if time.monotonic() - self._began < _AFTER:
                return
            self._bar = _bar()
            self._bar.start()
            self._bar.add_task("", total=None)
        text = f"{self._name}: {self._phase}" if self._phase else self._name
        self._bar.update(self._bar.task_ids[0], description=text, completed=self._done, total=self._total)


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    # What is printed meanwhile to standard output has to stay there: it may be a pipe.
    return Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False)
