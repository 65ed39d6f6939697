"""What the parameters of the phantom may be."""

import sys
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from reprlib import repr as short_repr
from typing import Any

import numpy as np

_DTYPES = ("uint8", "uint16", "float16", "float32", "float64")
_INTENSITIES = ("linear", "amplitude", "db")
_SMALLEST_FIELD = 16
_LEAST = -sys.float_info.max


def parameter_problems(parameters: Mapping[str, Any]) -> list[str]:
    """Everything that is wrong with the parameters: name, value, and what is accepted."""
    p = parameters
    # What one parameter allows may depend on another; where that one is wrong itself, less is checked.
    n = int(p["n_sections"]) if _is_integer(p["n_sections"], 1) else None
    sizes, missing, margin = p["planes_per_section"], p["missing_sections"], p["margin"]
    sizes_ok = _is_integer(sizes, 1) or _is_list(sizes, _is_integer, 1, n)
    missing_ok = _is_list(missing, _is_integer, 0) and (n is None or set(missing) < set(range(n)))
    n_planes, kept_planes, most_shared = None, None, None
    if n is not None and sizes_ok:
        section = np.repeat(np.arange(n), np.broadcast_to(sizes, n))
        n_planes, most_shared = section.size, int(np.min(sizes)) - 1
        if missing_ok:
            kept_planes = set(np.flatnonzero(~np.isin(section, [*missing])).tolist())
    kept_sections = set(range(n)) - set(missing) if n is not None and missing_ok else None
    smallest = _SMALLEST_FIELD + (2 * margin if _is_integer(margin, 0) else 0)
    shape = tuple(p["shape"]) if _is_list(p["shape"], _is_integer, smallest, 2) else None

    def number_or_one_per(what: str, name: str, length: int | None) -> tuple[bool, str]:
        ok = _is_number(p[name], 0) or _is_list(p[name], _is_positive, 0, length)
        count = "" if length is None else f" ({length})"
        return ok, f"a number of at least 0, or a sequence of numbers above 0, one per {what}{count}"

    def some_of(name: str, what: str, known: set[int] | None) -> tuple[bool, str]:
        ok = _is_list(p[name], _is_integer, 0) and (known is None or set(p[name]) <= known)
        return ok, f"a sequence of {what}, from 0, none in a missing section"

    def shared(name: str) -> tuple[bool, str]:
        ok = _is_integer(p[name], 0) and (most_shared is None or int(p[name]) <= most_shared)
        return ok, "an integer from 0 to one less than the planes of the smallest section"

    focus, rayleigh = p["focus"], p["rayleigh_range"]
    sizes_accepted = "an integer of at least 1, or a sequence of them, one per section"
    share = "a number from 0 to 1"
    rules = {
        "shape": (shape is not None, f"(y, x), integers of at least {smallest}"),
        "n_sections": (n is not None, "an integer of at least 1"),
        "planes_per_section": (sizes_ok, sizes_accepted + ("" if n is None else f" ({n})")),
        "missing_sections": (
            missing_ok,
            "a sequence of labels from 0 to n_sections - 1 that leaves a section",
        ),
        "section_gain": number_or_one_per("section", "section_gain", n),
        "plane_jitter": number_or_one_per("plane of the series", "plane_jitter", n_planes),
        "decay": (
            _is_number(p["decay"], 0) or _is_list(p["decay"], _is_number, 0, 2),
            "a number of at least 0, or two of them, of grey and white matter",
        ),
        **{name: (_is_number(p[name], 0, 1), share) for name in ("agarose", "grey", "white", "noise_floor")},
        "looks": (p["looks"] is None or _is_positive(p["looks"], 0), "a number above 0, or None"),
        "specular_planes": some_of("specular_planes", "planes of the series", kept_planes),
        "margin": (_is_integer(margin, 0), "an integer of at least 0"),
        "voxel_size": (_is_list(p["voxel_size"], _is_positive, 0, 3), "(z, y, x), numbers above 0"),
        "dtype": (p["dtype"] in _DTYPES, f"one of {', '.join(_DTYPES)}"),
        "seed": (_is_integer(p["seed"], 0), "an integer of at least 0"),
        "focus": (focus is None or _is_number(focus, _LEAST), "a number, or None"),
        "rayleigh_range": (
            rayleigh is None if focus is None else _is_positive(rayleigh, 0),
            "None without a focus, a number above 0 with one",
        ),
        "focus_wander": (
            _is_number(p["focus_wander"], 0) and (focus is not None or p["focus_wander"] == 0),
            "a number of at least 0, and 0 without a focus",
        ),
        "tilt": (_is_list(p["tilt"], _is_number, _LEAST, 2), "(y, x), numbers"),
        "tile_gain": (_is_list(p["tile_gain"], _is_positive, 0, 2), "(left, right), numbers above 0"),
        "overlap": shared("overlap"),
        "blend": shared("blend"),
        "agarose_steps": number_or_one_per("section", "agarose_steps", n),
        "no_agarose_sections": some_of("no_agarose_sections", "labels of sections", kept_sections),
        "lesions": (_is_integer(p["lesions"], 0), "an integer of at least 0"),
        "torn_sections": some_of("torn_sections", "labels of sections", kept_sections),
        "bubble_planes": some_of("bubble_planes", "planes of the series", kept_planes),
        "intensity": (p["intensity"] in _INTENSITIES, f"one of {', '.join(_INTENSITIES)}"),
        "dynamic_range": (_is_positive(p["dynamic_range"], 0), "a number above 0"),
        "anatomy": (
            p["anatomy"] is None or _is_anatomy(p["anatomy"], shape, margin),
            "classes from 0 to 3, (n, y, x) with the y and x of the field, or None",
        ),
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


def _is_anatomy(value: object, shape: tuple[int, ...] | None, margin: Any) -> bool:
    classes = np.asarray(value)
    if classes.ndim != 3 or not classes.size or classes.dtype.kind not in "iu":
        return False
    if shape is not None and _is_integer(margin, 0) and classes.shape[1:] != tuple(n - 2 * margin for n in shape):
        return False
    return bool(classes.min() >= 0 and classes.max() <= 3)
