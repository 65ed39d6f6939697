"""Apply a correction to a labelled volume."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import DTypeLike, NDArray

from xoctnorm import progress, provenance
from xoctnorm.agarose import SECTIONS, along_planes
from xoctnorm.checks import clashes, same_coordinate, volume_problems
from xoctnorm.corrections import BY_NAME, Background, Correction, UnitScale
from xoctnorm.errors import listed, raise_problems, warn
from xoctnorm.gpu import UseGPU, circumstance, fetched, streamed, use_problems
from xoctnorm.kernels.background import clip_steps, clip_to_unit
from xoctnorm.kernels.digest import Digest
from xoctnorm.matching import MATCHES, correction_problems, mismatches
from xoctnorm.metadata import ATTACHED
from xoctnorm.pending import await_digest
from xoctnorm.settings import USE_GPU
from xoctnorm.transfers import Transfer
from xoctnorm.volume import Planes, volume_dims

_COARSER = 1.5  # from how much fewer pixels on, along y and x alike, planes may be a level of a pyramid
_ALIKE = 0.05  # log of the ratio


@dataclass(frozen=True)
class Form:
    """What the user asked of a result: floating dtype, whether what was fitted comes along, what computes it."""

    dtype: DTypeLike = np.float32
    attach: bool = True
    use_gpu: UseGPU = USE_GPU

    def problems(self, da: xr.DataArray) -> list[str]:
        """What is wrong with the form, for this volume."""
        found = clashes(da) if self.attach else []
        if not self.record()["dtype"].startswith("float"):
            found.append(
                f"dtype={self.dtype!r}: floating dtypes are accepted, since results lie between 0 and 1: 'float32', "
                "'float64' or 'float16'"
            )
        if not isinstance(self.attach, bool):
            found.append(f"attach={self.attach!r}: needs True or False")
        return found + use_problems(self.use_gpu)

    def record(self) -> dict[str, Any]:
        """The form as the record keeps it."""
        try:
            name = np.dtype(self.dtype).name
        except TypeError:
            name = repr(self.dtype)
        return {"dtype": name, "attach": self.attach, "use_gpu": self.use_gpu}


def apply(da: xr.DataArray, correction: xr.Dataset, form: Form, *, match: str) -> xr.DataArray:
    """Apply a correction to a volume with the same planes, after checking that they are the same."""
    problems = [*volume_problems(da), *form.problems(da)]
    if match not in MATCHES:
        problems.append(f"match={match!r}: needs one of {listed([repr(m) for m in MATCHES])}")
    problems += correction_problems(correction)
    if not problems:
        problems += mismatches(da, correction, match)
    raise_problems("apply", problems)
    if "agarose_mask" in correction:  # a lazy result must not follow what the user does to it later
        correction = correction.assign(agarose_mask=correction["agarose_mask"].copy())
    step = provenance.steps_of(correction.attrs)[-1]
    corrections = recorded_corrections(step)
    notes = [warn(note) for note in [*already_normalized(da, corrections), *_other_pixels(da, step)]]
    device = circumstance(da.variable, form.use_gpu)
    step["apply"] = provenance.circumstances({"match": match, **form.record()}, notes, device)
    step["apply"]["edited"] = step.get("correction_digest") != provenance.values_digest(correction)
    dims = volume_dims(da, step["section"]["name"])
    step["applied_to"] = provenance.identity(da)
    if da.chunks is not None:  # not read now: its digest is counted when the result is written
        step["applied_to"]["awaits"] = await_digest(da.variable, dims)
        result = corrected(da, correction, step, form)
    else:
        count = Digest()
        if streamed(da.variable, form.use_gpu).chunks is None:
            result = corrected(da, correction, step, form, see=count.add)
        else:  # planes come back corrected only
            for plane in Planes(da.variable.transpose(*dims)).raw_planes():
                count.add(plane)
            result = corrected(da, correction, step, form)
        step["applied_to"]["digest"] = provenance.digest_text(count.total)
    line = provenance.history_line({**step["apply"], "method": "apply"})
    return described(result, da, step, [line, provenance.history_line(step)])


def corrected(
    da: xr.DataArray,
    correction: xr.Dataset,
    step: dict[str, Any],
    form: Form,
    see: Callable[[NDArray[np.generic]], None] | None = None,
) -> xr.DataArray:
    """The corrected volume with what was fitted; lazy where it is chunked, else `see` sees every plane."""
    corrections = recorded_corrections(step)
    raw = da.variable.transpose(*volume_dims(da, step["section"]["name"]))
    planes = Planes(streamed(raw, form.use_gpu))
    for one in corrections:
        planes = one.apply(planes, correction)
    if _scales(corrections):
        planes = planes.through(Transfer(clip_to_unit, steps=clip_steps))
    with progress.job("apply", int(np.prod(planes.data.shape[:-2]))):
        values = fetched(planes.correct(np.dtype(form.dtype), see), raw)
    result = da.copy(deep=False, data=values.transpose(*da.dims).data)
    result.encoding = {}

    fitted = [name for name in ATTACHED if name in correction]
    # What an earlier normalization left would stand beside what this one fitted.
    outdated = ATTACHED if _scales(corrections) else fitted
    result = result.drop_vars([name for name in outdated if name in result.coords and provenance.is_ours(result[name])])
    if form.attach:
        found = {name: correction[name].variable for name in fitted if _fits(correction[name], da)}
        # Masks of many sections are large, and are not copied: callers give those that nobody else changes.
        attached = {name: one if name == "agarose_mask" else one.copy() for name, one in found.items()}
        if "noise_floor" in attached and provenance.without_floor(da.attrs) and "noise_floor" in da.coords:
            attached["noise_floor"] = da.coords["noise_floor"].variable  # this one was 0, after the one that counts
        if "agarose_mask" in attached:
            rows = correction["section_index"].variable
            attached["agarose_mask"] = along_planes(attached["agarose_mask"], rows, raw)
        result = result.assign_coords(attached)
    return result


def described(result: xr.DataArray, da: xr.DataArray, step: dict[str, Any], history: Sequence[str]) -> xr.DataArray:
    """Give a result the attributes of its input that still hold, its history and its record."""
    stale = provenance.stale_attributes(da.attrs)
    attrs = {name: value for name, value in da.attrs.items() if name not in stale}
    if _scales(recorded_corrections(step)):
        attrs["units"] = "1"
    elif "units" in da.attrs:
        attrs["units"] = "1" if step.get("linearized") else da.attrs["units"]
    attrs["history"] = provenance.add_history(history, da.attrs.get("history"))
    attrs[provenance.ATTRIBUTE] = provenance.record([*provenance.steps_of(da.attrs), step])
    result.attrs = attrs
    return result


def already_normalized(da: xr.DataArray, corrections: Sequence[Correction]) -> list[str]:
    """What the user should know before a normalized volume is normalized again."""
    if not (provenance.is_normalized(da.attrs) and _scales(corrections)):
        return []
    return [
        "the volume is already normalized, as its record says: normalizing it again cuts off more of it; "
        "was the raw volume meant?"
    ]


def _other_pixels(da: xr.DataArray, step: Mapping[str, Any]) -> list[str]:
    """What to say where a correction comes from planes of another size, as a coarse level of a pyramid."""
    fitted = (step.get("fitted_on") or {}).get("shape", {})
    along_y, along_x = (da.sizes[dim] / fitted.get(dim, da.sizes[dim]) for dim in ("y", "x"))
    if max(along_y, 1 / along_y) < _COARSER or abs(np.log(along_y / along_x)) > _ALIKE:
        return []
    sizes = (f"{shape['y']} x {shape['x']}" for shape in (fitted, da.sizes))
    return [
        "the correction was fitted on planes of {} pixels and is applied to planes of {}. Where these are levels of a "
        "pyramid, gains of sections and planes hold, but averaged speckle has lower percentiles and another noise "
        "floor: the scale to 0…1, and how many voxels are cut off at 1, are those of the level that was "
        "fitted".format(*sizes)
    ]


def _scales(corrections: Sequence[Correction]) -> bool:
    """Whether the corrections bring intensities to 0…1."""
    return any(isinstance(one, Background | UnitScale) for one in corrections)


def recorded_corrections(step: dict[str, Any]) -> list[Correction]:
    """The corrections that a step records, with their parameters."""
    return [BY_NAME[c["name"]](**c["parameters"]) for c in step["corrections"]]


def _fits(variable: xr.DataArray, da: xr.DataArray) -> bool:
    """Whether a fitted variable has a place on the volume: the mask of other pixels has none."""
    return all(
        da.sizes.get(dim) == size
        and (
            dim not in ("y", "x")
            or dim not in da.coords
            or dim not in variable.coords
            or same_coordinate(da.coords[dim], variable.coords[dim])
        )
        for dim, size in variable.sizes.items()
        if (variable.name, dim) != ("agarose_mask", SECTIONS)
    )
