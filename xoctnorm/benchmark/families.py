"""The phantoms of the benchmark, as data: what each family varies, and what may be expected on it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.benchmark import anatomies
from xoctnorm.phantom import make_phantom

Reach = Literal["standard", "hard", "beyond"]
"""What is promised: the limits, twice the limits, or only that nothing gets worse than the input."""

QUICK_SHAPE = (64, 80)
_SHAPE = (128, 160)


@dataclass(frozen=True)
class Family:
    """Phantoms that differ by their seed only.

    Attributes
    ----------
    name : str
        Name on the command line and in tables.
    varies : str
        What makes it differ from the plain family.
    parameters : mapping
        Parameters of `make_phantom` that are not its defaults.
    reach : str
        ``"standard"``, ``"hard"`` (one look, fewer than 8 sections or agarose below the noise: twice the limits) or
        ``"beyond"`` (no limits, but no method may make the volume worse).
    tuned : bool
        Whether methods were tuned on phantoms of this family, with other seeds.
    options : mapping
        Options of the new methods that the user of such a volume knows to give.
    anatomy : callable or None
        Makes the classes from the seed and the shape of the field; None: the folded brain.
    needs : str or None
        Package without which the family can't be made.
    """

    name: str
    varies: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    reach: Reach = "standard"
    tuned: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    anatomy: Callable[[int, tuple[int, int]], NDArray[np.int8]] | None = None
    needs: str | None = None

    @property
    def available(self) -> bool:
        """Whether the package that it needs is installed."""
        return self.needs is None or find_spec(self.needs) is not None

    def make(self, seed: int, *, shape: tuple[int, int] = _SHAPE) -> xr.Dataset:
        """Make the phantom of one seed."""
        anatomy = None if self.anatomy is None else self.anatomy(seed, shape)
        return make_phantom(shape=shape, seed=seed, anatomy=anatomy, **self.parameters)


def _jitter_with_saturation() -> tuple[float, ...]:
    """Jitter of 2 %, but for one plane in the middle of a section that is three times as bright."""
    jitter = np.exp(0.02 * np.random.default_rng(0).standard_normal(120))
    jitter[45] = 3.0
    return tuple(jitter.tolist())


_FULL: dict[str, Any] = {"decay": (0.05, 0.1), "focus": 3.0, "rayleigh_range": 8.0, "noise_floor": 0.02}

_UNEVEN = (10, 7, 12, 10, 9, 11, 6, 10, 13, 8, 10, 14)

_ALL = (
    Family("plain", "nothing: gain 20 %, jitter 2 %, decay 5 % per plane, 6 looks", tuned=True),
    Family("plain-noiseless", "no speckle", {"looks": None}, tuned=True),
    Family("full", "confocal response, white matter attenuates twice as much, noise floor 0.02", _FULL, tuned=True),
    Family("full-noiseless", "as full, no speckle", {**_FULL, "looks": None}, tuned=True),
    Family("drift-none", "sections have equal gain", {"section_gain": 0.0}, tuned=True),
    Family("drift-40", "gain 40 %", {"section_gain": 0.4}),
    Family("decay-weak", "decay 2 % per plane", {"decay": 0.02}),
    Family("decay-strong", "decay 10 % per plane in grey, 15 % in white matter", {"decay": (0.1, 0.15)}, tuned=True),
    Family("floor-none", "no noise floor", {"noise_floor": 0.0}),
    Family("floor-high", "noise floor 0.05, nearly as bright as agarose", {"noise_floor": 0.05}),
    Family("one-look", "fully developed speckle", {"looks": 1.0}, "hard", tuned=True),
    Family("agarose-dark", "agarose 0.03", {"agarose": 0.03}, tuned=True),
    Family("agarose-bright", "agarose 0.12", {"agarose": 0.12}, tuned=True),
    Family(
        "agarose-in-noise", "agarose 0.01, noise floor 0.05", {"agarose": 0.01, "noise_floor": 0.05}, "hard", tuned=True
    ),
    Family("agarose-brightest", "agarose 0.5, brighter than white matter", {"agarose": 0.5}, "beyond", tuned=True),
    Family(
        "agarose-steps",
        "agarose steps by 20 % from section to section, tissue does not",
        {"agarose_steps": 0.2},
        tuned=True,
    ),
    Family("agarose-absent", "two sections without agarose", {"no_agarose_sections": (3, 8)}, tuned=True),
    Family(
        "response",
        "confocal response: focus 5, Rayleigh range 6 planes",
        {"focus": 5.0, "rayleigh_range": 6.0},
        tuned=True,
    ),
    Family(
        "focus-wanders",
        "confocal response whose focus moves by half a plane from section to section",
        {"focus": 3.0, "rayleigh_range": 8.0, "focus_wander": 0.5},
        "beyond",
        tuned=True,
    ),
    Family("margin", "empty margin of 8 pixels", {"margin": 8}, tuned=True),
    Family("cropped", "the brain is cut off by the left edge of the field", anatomy=anatomies.cropped_brain),
    Family(
        "real-anatomy",
        "grey and white matter of the ICBM152 template",
        anatomy=anatomies.icbm152,
        needs="nilearn",
        tuned=True,
    ),
    Family("lesions", "six bright or dark lesions", {"lesions": 6}, tuned=True),
    Family("specular", "specular spots in four planes", {"specular_planes": (0, 37, 38, 90)}, tuned=True),
    Family("bubbles", "bubbles in four planes", {"bubble_planes": (0, 37, 38, 90)}, tuned=True),
    Family("torn", "two torn sections", {"torn_sections": (4, 9)}, tuned=True),
    Family("missing", "two lost sections", {"missing_sections": (3, 7)}, tuned=True),
    Family(
        "saturated",
        "16-bit integers, one plane three times as bright and saturated",
        {"plane_jitter": _jitter_with_saturation(), "dtype": "uint16"},
        "beyond",
        tuned=True,
    ),
    Family("tiles", "the right half of the field at 0.8", {"tile_gain": (1.0, 0.8)}, tuned=True),
    Family("tilt", "cuts tilted by 3 planes along y and 2 along x", {"tilt": (3.0, 2.0)}, tuned=True),
    Family(
        "overlap",
        "sections overlap by 3 planes, 2 of them blended",
        {"overlap": 3, "blend": 2},
        options={"blend": 2},
        tuned=True,
    ),
    Family("six-sections", "6 sections", {"n_sections": 6}, "hard", tuned=True),
    Family("one-plane", "40 sections of one plane", {"n_sections": 40, "planes_per_section": 1}, tuned=True),
    Family("uneven", "sections of 6 to 14 planes", {"planes_per_section": _UNEVEN}, tuned=True),
    Family("amplitude", "the volume holds amplitudes", {"intensity": "amplitude"}, tuned=True),
    Family("db", "the volume is in decibels", {"intensity": "db"}, tuned=True),
)

FAMILIES = {family.name: family for family in _ALL}
"""All families by name, in the order of the tables."""
