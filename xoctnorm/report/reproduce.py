"""How to make a result again: the call in Python and on the command line, from the record."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from xoctnorm.provenance import jsonable
from xoctnorm.settings import USE_GPU, Normalization

_OF_RESULT: dict[str, Any] = {"dtype": "float32", "attach": True, "use_gpu": USE_GPU}
_DEFAULTS: dict[str, Any] = {**jsonable(asdict(Normalization())), "agarose_mask": None, **_OF_RESULT}
_OF_APPLY: dict[str, Any] = {"match": "coordinates", **_OF_RESULT}
_ON_COMMAND_LINE = ("drift", "flatten_depth", "zprofile_sigma", "agarose_mask", "section")
_MISSING = object()


def python_code(steps: Sequence[Mapping[str, Any]]) -> str:
    """The recorded steps as a program; empty where nothing is recorded."""
    if not steps:
        return ""
    lines = ["import xoctnorm", ""]
    unknown = "" if _source(steps) else "  # the record names no file"
    lines.append(f"volume = xoctnorm.open_volume({_source(steps) or 'volume.nc'!r}){unknown}")
    for step in steps:
        lines += _of_step(step)
    return "\n".join(lines)


def shell_code(steps: Sequence[Mapping[str, Any]]) -> str:
    """The command that does the same; empty where the command line has not all that is needed."""
    if len(steps) != 1 or steps[0]["method"] not in ("normalize", "fit"):
        return ""
    given = _given(steps[0]["parameters"], _DEFAULTS)
    mask = given.get("agarose_mask")
    by_name = mask is None or (isinstance(mask, str) and not mask.startswith("<"))
    applied = _given((steps[0].get("apply") or {}).get("parameters", {}), _OF_APPLY)
    if applied or not by_name or not set(given) <= set(_ON_COMMAND_LINE):
        return ""
    words = ["xoctnorm", "normalize", _source(steps) or "volume.nc", "normalized.nc"]
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        words += [option] if value is True else [option, "none" if value is None else str(value)]
    return shlex.join(words)


def versions(steps: Sequence[Mapping[str, Any]]) -> str:
    """With which versions it was made."""
    found = steps[-1]["software"] if steps else {}
    return ", ".join(f"{name} {version}" for name, version in found.items())


def _source(steps: Sequence[Mapping[str, Any]]) -> str:
    return str((steps[0].get("fitted_on") or {}).get("source") or "")


def _of_step(step: Mapping[str, Any]) -> list[str]:
    method = step["method"] if str(step["method"]).isidentifier() else "normalize"
    given = _given(step["parameters"], _DEFAULTS)
    lines = []
    for name, value in given.items():
        if isinstance(value, str) and value.startswith("<mask"):
            lines.append(f"{name} = …  # the mask that was passed: {value[1:-1]}".replace("\n", " "))
    arguments = ", ".join(
        f"{name}={name if isinstance(value, str) and value.startswith('<mask') else repr(value)}"
        for name, value in given.items()
    )
    if method != "fit":
        return [*lines, f"volume = volume.octnorm.{method}({arguments})"]
    applied = _given((step.get("apply") or {}).get("parameters", {}), _OF_APPLY)
    further = "".join(f", {name}={value!r}" for name, value in applied.items())
    lines.append(f"correction = volume.octnorm.fit({arguments})")
    if (step.get("apply") or {}).get("edited"):
        lines.append("# the numbers of the correction were edited before it was applied")
    return [*lines, f"volume = volume.octnorm.apply(correction{further})"]


def _given(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments that are not the defaults."""
    return {
        name: value
        for name, value in parameters.items()
        if name.isidentifier() and defaults.get(name, _MISSING) != value
    }
