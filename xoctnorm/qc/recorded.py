"""What the record of a volume, its attached factors and its correction tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import provenance
from xoctnorm.corrections.intensity import AUTO
from xoctnorm.kernels.classes import BRIGHT, DARK
from xoctnorm.qc.definitions import FLAGS, UNMEASURED
from xoctnorm.qc.figures import SECTION, Figures
from xoctnorm.sections import Sections, plane_dims
from xoctnorm.volume import extra_dims

Series = NDArray[np.float64]

_ADVICE = "the message says what to try; history and record of the volume have the call"
_FACTORS = ("scale_factor", "depth_gain", "zprofile_gain")


@dataclass(frozen=True)
class Record:
    """What was done to a volume.

    Attributes
    ----------
    corrections
        Parameters of the corrections, by name; of the last step that has them.
    warnings
        Of all steps.
    labels, flags
        Of every section in the correction; None without one that tells.
    processed, scaled
        Whether a floor was taken off, and whether the volume was scaled to 0…1.
    """

    corrections: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...]
    labels: tuple[str, ...]
    flags: tuple[str, ...] | None
    processed: bool
    scaled: bool

    @classmethod
    def of(cls, da: xr.DataArray, correction: xr.Dataset | None) -> Record:
        """Read the record of a volume and, where there is one, of its correction."""
        steps = provenance.steps_of(da.attrs)
        corrections = {one["name"]: one["parameters"] for step in steps for one in step["corrections"]}
        warnings = [
            text for step in steps for text in (*step["warnings"], *((step.get("apply") or {}).get("warnings") or ()))
        ]
        flags: tuple[str, ...] | None = None
        labels: tuple[str, ...] = ()
        if correction is not None and "section_flags" in correction:
            of_sections = correction["section_flags"].transpose(..., SECTION)
            rows = of_sections.to_numpy().reshape(-1, of_sections.sizes[SECTION])
            flags = tuple(" ".join(dict.fromkeys(" ".join(column).split())) for column in rows.T.astype(str))
            labels = tuple(str(label) for label in correction[SECTION].to_numpy())
        normalized = provenance.is_normalized(da.attrs)
        return cls(
            corrections,
            tuple(dict.fromkeys(warnings)),
            labels,
            flags,
            normalized or provenance.without_floor(da.attrs),
            normalized,
        )

    def _parameter(self, correction: str, name: str, default: Any) -> Any:
        return self.corrections.get(correction, {}).get(name, default)

    @property
    def intensity(self) -> str:
        """Scale of the volume that was corrected, where the user gave it."""
        return str(self._parameter("linearize", "intensity", AUTO))

    @property
    def blend(self) -> int:
        """Planes after each cut that are blends."""
        return int(self._parameter("tissue_drift", "blend", 0))

    @property
    def first_depth(self) -> int | None:
        """Depth of the first plane, where the user gave it."""
        depth = self._parameter("tissue_drift", "first_depth", None)
        return None if depth is None else int(depth)

    @property
    def reference(self) -> int | None:
        """Class of the reference tissue, where the user gave it."""
        return {"dark": DARK, "bright": BRIGHT}.get(str(self._parameter("tissue_drift", "reference_tissue", AUTO)))

    @property
    def by_otsu(self) -> bool:
        """Whether agarose was found by Otsu's threshold."""
        return "otsu_mask" in self.corrections

    @property
    def flattened(self) -> bool:
        """Whether decay was taken out."""
        return bool(self._parameter("tissue_drift", "flatten_depth", False))

    @property
    def without_noise(self) -> bool:
        """Whether the floor that was taken off is that of noise, or may be."""
        return "tissue_drift" in self.corrections

    def noise_floor(self, da: xr.DataArray, section: str, at: Mapping[str, int], given: float | None) -> Series | None:
        """Noise floor of every plane on the linear intensity that was corrected; None where it is not known."""
        if given is None:
            return _attached(da, "noise_floor", section, at)
        return np.full(int(np.prod([da.sizes[dim] for dim in plane_dims(da, section)])), float(given))

    def remaining_noise(
        self, da: xr.DataArray, section: str, at: Mapping[str, int], floor: Series | None
    ) -> Series | None:
        """What the factors made of the noise floor, for every plane."""
        if floor is None:
            return None
        noise = floor
        for name in _FACTORS:
            factor = _attached(da, name, section, at)
            noise = noise if factor is None else noise * factor
        divisor = _attached(da, "divisor", section, at)
        return noise if divisor is None else noise / divisor

    def messages(self, name: str) -> list[tuple[str, str]] | None:
        """What is to be said of a figure one by one."""
        if name == "recorded_warnings":
            return [(f"when it was fitted: {text}", _ADVICE) for text in self.warnings]
        if name == "flagged_sections" and self.flags is not None:
            having: dict[str, list[str]] = {}
            for label, flags in zip(self.labels, self.flags, strict=True):
                for flag in flags.split():
                    having.setdefault(flag, []).append(label)
            return [
                (
                    f"section {', '.join(labels)}: {FLAGS.get(flag, (flag, ''))[0]} ({flag})",
                    FLAGS.get(flag, ("", ""))[1],
                )
                for flag, labels in having.items()
            ]
        return None


def recorded_figures(
    da: xr.DataArray, record: Record, sections: Sections, section: str, at: Mapping[str, int]
) -> Figures:
    """Factors at their clamp, warnings and flags."""
    found = Figures({}, {})
    clamps = []
    scale, gain = (_attached(da, name, section, at) for name in ("scale_factor", "depth_gain"))
    bounds = record.corrections.get("scale", {})
    if scale is not None and bounds.get("strength", 1) == 1 and len(sections) > 1:
        clamps += [np.isclose(scale, bounds[end], rtol=1e-5) for end in ("min_scale", "max_scale") if end in bounds]
    most = record.corrections.get("tissue_drift", {}).get("max_depth_gain")
    if gain is not None and most is not None:
        clamps.append(np.isclose(gain, most, rtol=1e-5))
    if clamps:
        share = float(np.mean(np.logical_or.reduce(clamps)))
        found.values["clamped_factors"] = (), share
        found.judged["clamped_factors"] = share
    if record.processed:
        found.values["recorded_warnings"] = (), float(len(record.warnings))
        found.judged["recorded_warnings"] = float(len(record.warnings))
    if record.flags is not None:
        share = float(np.mean([bool(flags) for flags in record.flags]))
        found.values["flagged_sections"] = (), share
        found.judged["flagged_sections"] = share
        unmeasured = float(np.mean([not set(UNMEASURED).isdisjoint(flags.split()) for flags in record.flags]))
        found.values["unmeasured_sections"] = (), unmeasured
        found.judged["unmeasured_sections"] = unmeasured
        if len(record.flags) == len(sections):
            found.values["section_flags"] = (SECTION,), np.array(record.flags)
    return found


def _attached(da: xr.DataArray, name: str, section: str, at: Mapping[str, int]) -> Series | None:
    """What was fitted and is attached, for every plane; None where it is not, or not ours."""
    if name not in da.coords or not provenance.is_ours(da.coords[name]):
        return None
    planes = plane_dims(da, section)
    coord = da.coords[name].variable.isel({dim: i for dim, i in at.items() if dim in da.coords[name].dims})
    if not set(coord.dims) <= {*planes, *extra_dims(da, section)}:
        return None
    laid_out = coord.set_dims({dim: da.sizes[dim] for dim in planes}).transpose(*planes)
    return np.asarray(laid_out.to_numpy(), np.float64).reshape(-1)
