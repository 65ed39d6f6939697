"""Drift between sections, jitter of planes and decay with depth, by a model of agarose and tissue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm.checks import integer_problems, number_problems
from xoctnorm.corrections.base import Correction
from xoctnorm.errors import listed, raise_problems
from xoctnorm.kernels.background import drift_steps, subtract_and_multiply
from xoctnorm.threads import one_blas_thread
from xoctnorm.transfers import Transfer
from xoctnorm.volume import PlanesT, Volume

if TYPE_CHECKING:
    from xoctnorm.corrections.drift_reads import Observed

METHODS = ("agarose", "continuity", "joint")
JITTER = "jitter"  # of planes alone, for methods that find gains by themselves
TISSUES = ("auto", "dark", "bright")
AUTO = "auto"
SMOOTH, TILED = "smooth", "tiles"
LATERAL = (None, SMOOTH, TILED)
OVER_FIELD = ("lateral_gain", "lateral_position_y", "lateral_position_x", "depth_below_cut")

FROM_MASK = "mask"  # the noise floor is the mean over a mask that came with the volume


@dataclass(frozen=True)
class TissueDrift(Correction):
    """Noise floor, gain of every section, jitter of every plane, and the depth profile that sections share.

    Parameters
    ----------
    method
        Where gains come from: ``"agarose"``, ``"continuity"`` of tissue across cuts, ``"joint"`` of both; ``"jitter"``
        corrects the jitter of planes alone, None neither gains nor jitter.
    flatten_depth
        Whether planes are divided by the depth profile of the reference tissue.
    noise_floor
        A number, one for every plane or for every depth, or ``"auto"``; in units of linear intensity. ``"mask"``:
        the mean over the voxels without signal that the user marked.
    exclude
        Labels of sections that are left out of the fit; their factors follow from their neighbours.
    reference_tissue
        The class whose profile is divided out: ``"dark"``, ``"bright"``, or ``"auto"``.
    max_depth_gain
        Largest gain of flattening.
    first_depth
        Depth of the first plane of the first section, in planes; None takes a first section that is shorter than the
        others for the lower part of one.
    blend
        Planes after each cut that are blends of two sections.
    strength
        0 leaves gains and jitter alone, 1 corrects them wholly.
    lateral
        Whether flattening follows how the profile varies over the field: ``"smooth"``, or in ``"tiles"`` between seams.
    """

    method: str | None = "joint"
    flatten_depth: bool = False
    noise_floor: str | float | tuple[float, ...] = AUTO
    exclude: tuple[Any, ...] = ()
    reference_tissue: str = AUTO
    max_depth_gain: float = 4.0
    first_depth: int | None = None
    blend: int = 0
    strength: float = 1.0
    lateral: str | None = None
    name: ClassVar[str] = "tissue_drift"

    def __post_init__(self) -> None:
        for field in ("exclude", "noise_floor"):  # a record has lists
            if isinstance(getattr(self, field), list):
                object.__setattr__(self, field, tuple(getattr(self, field)))

    def needed(self) -> tuple[str, ...]:
        """See `Correction.needed`."""
        return (
            "noise_floor",
            *(("scale_factor",) if self.method is not None else ()),
            *(("depth_gain",) if self.flatten_depth else ()),
            *(OVER_FIELD if self.lateral is not None else ()),
        )

    @property
    def keeps_order(self) -> bool:
        """See `Correction.keeps_order`."""
        return self.lateral is None

    def problems(self) -> list[str]:
        """See `Correction.problems`."""
        found = []
        if self.method is not None and self.method not in (*METHODS, JITTER):
            found.append(f"method={self.method!r}: needs one of {listed([repr(m) for m in METHODS])}")
        if self.reference_tissue not in TISSUES:
            found.append(
                f"reference_tissue={self.reference_tissue!r}: needs one of {listed([repr(t) for t in TISSUES])}"
            )
        if isinstance(self.noise_floor, str):
            if self.noise_floor not in (AUTO, FROM_MASK):
                found.append(f"noise_floor={self.noise_floor!r}: needs 'auto', a number, or numbers along z or depth")
        elif isinstance(self.noise_floor, tuple):
            found += [p for value in self.noise_floor for p in number_problems("noise_floor", value, 0)][:1]
        else:
            found += number_problems("noise_floor", self.noise_floor, 0)
        if self.first_depth is not None:
            found += integer_problems("first_depth", self.first_depth, 0)
        found += integer_problems("blend", self.blend, 0)
        found += number_problems("max_depth_gain", self.max_depth_gain, 1)
        found += number_problems("strength", self.strength, 0, 1)
        if not isinstance(self.flatten_depth, bool | np.bool_):
            found.append(f"flatten_depth={self.flatten_depth!r}: needs True or False")
        if self.lateral not in LATERAL:
            found.append(f"lateral={self.lateral!r}: needs one of {listed([repr(one) for one in LATERAL])}")
        elif self.lateral is not None and not self.flatten_depth:
            found.append(
                f"lateral={self.lateral!r} is about the decay with depth, which flatten_depth=False keeps: pass "
                "flatten_depth=True with it, or lateral=None"
            )
        return found

    def reads(self, n_sections: int) -> int:
        """See `Correction.reads`."""
        return 2

    @one_blas_thread()
    def fit(self, volume: Volume) -> tuple[xr.Dataset, list[str]]:
        """Read the volume twice: the ends of sections, which tell the classes, then every plane over its classes."""
        # Imported here, as below, since this class is needed for its defaults alone when the package is imported.
        from xoctnorm.corrections.drift_reads import observe
        from xoctnorm.corrections.drift_tables import leave_alone, planes_of, tables
        from xoctnorm.corrections.lateral import FLAG, lateral_tables, observed_profile, variation
        from xoctnorm.kernels.drift import estimate

        raise_problems("exclude", self._exclude_problems(volume))
        observed = observe(volume, self.exclude, self.blend, self.first_depth, seams=self.lateral == TILED)
        floor = self._given_floor(observed)
        notes = [*volume.sections.notes, *observed.notes]
        varying = None
        if len(observed.kept) == 1:
            numbers = leave_alone(observed, floor, [])
            notes.append(
                "one section: nothing tells decay with depth from anatomy, nor the noise floor, so all are left alone"
            )
        elif not np.isfinite(observed.sums.through().mean[:, 1:]).any():
            numbers = leave_alone(observed, floor, ["few_voxels"])
            notes.append(
                "no tissue keeps its class through a section, so drift and decay are left alone: is there tissue, and "
                "are sections right?"
            )
        else:
            drift = estimate(observed.sums, observed.layout, self.method if self.method in METHODS else "joint", floor)
            numbers = planes_of(observed, drift, self.reference_tissue, self.max_depth_gain)
            varying = observed_profile(observed, drift)
            numbers.say_of_all(FLAG, variation(varying, self.lateral))
        lateral = xr.Dataset()
        if self.lateral is not None:
            lateral, decisions, remarks = lateral_tables(
                varying, self.lateral, observed, float(np.mean(numbers.noise_floor))
            )
            numbers.decisions.extend(decisions)
            numbers.remarks.extend(remarks)
        notes += numbers.notes(volume.sections.labels, depth=self.flatten_depth, gains=self.method in METHODS)
        fitted = tables(numbers, observed, volume).assign(lateral.data_vars)
        if self.method is not None:
            gains = self.method in METHODS
            log = numbers.log_gain + numbers.log_jitter if gains else numbers.log_jitter
            factor = np.exp(-self.strength * log)
            fitted["scale_factor"] = volume.per_plane(factor.astype(np.float32))
        if self.method in METHODS:
            fitted["scale_factor_se"] = volume.per_plane(
                (factor * self.strength * numbers.factor_error).astype(np.float32)
            )
        if self.flatten_depth:
            fitted["depth_gain"] = volume.per_plane(numbers.depth_gain.astype(np.float32))
        fitted.attrs["decisions"] = numbers.decisions
        return fitted, notes

    def apply(self, planes: PlanesT, fitted: xr.Dataset) -> PlanesT:
        """Subtract the floor, multiply every plane by its factors, and by the gain over the field."""
        factors = (fitted[name].variable for name in self.needed() if name not in OVER_FIELD)
        planes = planes.through(Transfer(subtract_and_multiply, tuple(factors), drift_steps))
        if self.lateral is None:
            return planes
        from xoctnorm.corrections.lateral import through_lateral

        return through_lateral(planes, fitted, self.lateral)

    def _exclude_problems(self, volume: Volume) -> list[str]:
        labels = volume.sections.labels
        unknown = [label for label in self.exclude if str(label) not in {str(known) for known in labels}]
        if unknown:
            known = listed([str(label) for label in labels])
            return [f"exclude has {listed([repr(label) for label in unknown])}: the sections are {known}"]
        left = len(labels) - len({str(label) for label in self.exclude})
        return [] if left else ["exclude names every section: leave some in"]

    def _given_floor(self, observed: Observed) -> NDArray[np.float64] | float | None:
        """The noise floor that the user gave, for every plane of the fit; None where it is to be found."""
        if self.noise_floor == AUTO:
            return None
        if self.noise_floor == FROM_MASK:
            return observed.masked_mean
        if not isinstance(self.noise_floor, tuple):
            return float(self.noise_floor)
        values = np.array(self.noise_floor, float)
        if values.size == observed.used.size:
            return values[observed.used]
        if values.size == observed.depth.max() + 1:
            return values[observed.layout.depth]
        raise_problems(
            "noise_floor",
            [
                f"noise_floor has {values.size} numbers: one for each of the {observed.used.size} planes, or for each "
                f"of the {observed.depth.max() + 1} depths, is needed"
            ],
        )
        raise AssertionError
