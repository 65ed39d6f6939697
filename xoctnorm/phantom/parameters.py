"""What the parameters of the phantom may be."""

import sys
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from reprlib import repr as short_repr
from typing import Any

import numpy as np

_DTYPES = ("uint8", "uint16", "float16", "float32", "float64")
_SMALLEST_FIELD = 16


def parameter_problems(parameters: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the parameters: name, value, and what is accepted."""
    p = parameters
    # What one parameter allows may depend on another; where that one is wrong itself, less is checked.
    n = int(p["n_sections"]) if _is_integer(p["n_sections"], 1) else None
    sizes, missing, margin = p["planes_per_section"], p["missing_sections"], p["margin"]
    sizes_ok = _is_integer(sizes, 1) or _is_list(sizes, _is_integer, 1, n)
    missing_ok = _is_list(missing, _is_integer, 0) and (n is None or set(missing) < set(range(n)))
    specular_ok = _is_list(p["specular_planes"], _is_integer, 0)
    n_planes = None
    if n is not None and sizes_ok:
        section = np.repeat(np.arange(n), np.broadcast_to(sizes, n))
        n_planes = section.size
        if missing_ok and specular_ok:
            specular_ok = set(p["specular_planes"]) <= set(np.flatnonzero(~np.isin(section, [*missing])))
    smallest = _SMALLEST_FIELD + (2 * margin if _is_integer(margin, 0) else 0)

    def number_or_one_per(what: str, name: str, length: int | None) -> tuple[bool, str]:
        ok = _is_number(p[name], 0) or _is_list(p[name], _is_positive, 0, length)
        count = "" if length is None else f" ({length})"
        return ok, f"a number of at least 0, or a sequence of numbers above 0, one per {what}{count}"

    sizes_accepted = "an integer of at least 1, or a sequence of them, one per section"
    share = "a number from 0 to 1"
    rules = {
        "shape": (_is_list(p["shape"], _is_integer, smallest, 2), f"(y, x), integers of at least {smallest}"),
        "n_sections": (n is not None, "an integer of at least 1"),
        "planes_per_section": (sizes_ok, sizes_accepted + ("" if n is None else f" ({n})")),
        "missing_sections": (
            missing_ok,
            "a sequence of labels from 0 to n_sections - 1 that leaves a section",
        ),
        "section_gain": number_or_one_per("section", "section_gain", n),
        "plane_jitter": number_or_one_per("plane of the series", "plane_jitter", n_planes),
        "decay": (_is_number(p["decay"], 0), "a number of at least 0"),
        **{name: (_is_number(p[name], 0, 1), share) for name in ("agarose", "grey", "white", "noise_floor")},
        "looks": (p["looks"] is None or _is_positive(p["looks"], 0), "a number above 0, or None"),
        "specular_planes": (
            specular_ok,
            "a sequence of planes of the series, from 0, none in a missing section",
        ),
        "margin": (_is_integer(margin, 0), "an integer of at least 0"),
        "voxel_size": (_is_list(p["voxel_size"], _is_positive, 0, 3), "(z, y, x), numbers above 0"),
        "dtype": (p["dtype"] in _DTYPES, f"one of {', '.join(_DTYPES)}"),
        "seed": (_is_integer(p["seed"], 0), "an integer of at least 0"),
    }
    return [f"{name}={short_repr(p[name])}: must be {accepted}" for name, (ok, accepted) in rules.items() if not ok]


def _is_integer(value: object, least: float) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _is_number(value: object, least: float, most: float = sys.float_info.max) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and least <= float(value) <= most


def _is_positive(value: object, least: float) -> bool:
    return _is_number(value, least) and value != 0


def _is_list(value: object, is_item: Callable[[object, float], bool], least: float, length: int | None = None) -> bool:
    if not isinstance(value, Sequence | np.ndarray) or np.shape(value) == ():
        return False
    return length in (None, len(value)) and all(is_item(item, least) for item in value)
