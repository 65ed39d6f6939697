"""What every command says: its outcome on standard output, all else on standard error, and how it ends."""

from __future__ import annotations

import functools
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ParamSpec

import click

from xoctnorm.errors import InputError
from xoctnorm.progress import set_progress
from xoctnorm.provenance import jsonable
from xoctnorm.text import escaped

FAILED, INTERRUPTED = 1, 130

Parameters = ParamSpec("Parameters")


@dataclass(frozen=True)
class Outcome:
    """What a command found or did.

    Attributes
    ----------
    facts
        For programs.
    text
        For people, on standard output; empty where a file is all that the command makes.
    code
        With which the command ends.
    """

    facts: dict[str, Any]
    text: str = ""
    code: int = 0


@dataclass
class _Said:
    """Warnings so far, and whether they are shown."""

    quiet: bool
    warnings: list[str] = field(default_factory=list)


def say(message: str) -> None:
    """Tell the user what is going on, on standard error, unless that is not wanted."""
    if not click.get_current_context().params["quiet"]:
        print(message, file=sys.stderr, flush=True)


def reported(command: Callable[Parameters, Outcome]) -> Callable[..., None]:
    """Give a command the options --json, --quiet and --debug, and an end that programs understand."""

    @click.option("--json", "as_json", is_flag=True, help="Print the outcome, or the problems, as JSON.")
    @click.option("--quiet", is_flag=True, help="No progress, no messages, no warnings; errors only.")
    @click.option("--debug", is_flag=True, help="Show where in the code an error comes from.")
    @functools.wraps(command)
    def whole(*args: Any, as_json: bool, quiet: bool, debug: bool, **options: Any) -> None:
        said, began = _Said(quiet), time.perf_counter()
        name = click.get_current_context().info_name
        try:
            with _warnings_to(said), set_progress(False if quiet else None):
                outcome = command(*args, **options)
        except click.ClickException:
            raise
        except KeyboardInterrupt:
            _fail({"problems": ["interrupted"]}, "interrupted", as_json, INTERRUPTED)
        except Exception as error:
            if debug:
                traceback.print_exc()
            problems, text = _of_error(error)
            _fail({"problems": problems, "warnings": said.warnings}, text, as_json, FAILED)
        else:
            if as_json:
                seconds = round(time.perf_counter() - began, 3)
                _print_json({"command": name, **outcome.facts, "warnings": said.warnings, "seconds": seconds})
            elif outcome.text:
                print(escaped(outcome.text))
            if outcome.code:
                click.get_current_context().exit(outcome.code)

    return whole


def _of_error(error: Exception) -> tuple[list[str], str]:
    """Problems of an error, and its message."""
    if isinstance(error, InputError):
        return list(error.problems), f"error in {error}"
    text = str(error) if isinstance(error, OSError | MemoryError) and str(error) else f"{type(error).__name__}: {error}"
    return [text], f"error: {text}"


def _fail(facts: dict[str, Any], text: str, as_json: bool, code: int) -> None:
    if as_json:
        _print_json({"command": click.get_current_context().info_name, **facts})
    print(text, file=sys.stderr, flush=True)
    click.get_current_context().exit(code)


def _print_json(facts: dict[str, Any]) -> None:
    print(escaped(json.dumps(jsonable(facts), ensure_ascii=False, indent=2)))


@contextmanager
def _warnings_to(said: _Said) -> Iterator[None]:
    """Show warnings as one line each, and keep them."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        said.warnings.append(str(message))
        if not said.quiet:
            print(f"warning: {message}", file=sys.stderr, flush=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        warnings.showwarning = show
        yield
