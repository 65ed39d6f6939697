"""Fit corrections to a labelled volume: from a DataArray to the small Dataset that keeps every fitted number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from xoctnorm import progress, provenance
from xoctnorm.agarose import AgaroseMask, Mask, labelled_agarose
from xoctnorm.blocks import BLOCK_BYTES, memory_of, reopened, values_on_host
from xoctnorm.checks import coverage_problems, mask_problems, volume_problems
from xoctnorm.cluster import client_of, surveyed_by_workers
from xoctnorm.corrections import (
    Correction,
    HistogramMatch,
    Linearize,
    PercentileScale,
    QuantileMatch,
    TissueDrift,
)
from xoctnorm.corrections.intensity import AUTO
from xoctnorm.depths import coordinate_problems
from xoctnorm.errors import InputError, collecting, raise_problems, warn
from xoctnorm.findings import PlaneEnds, SectionPercentiles, TissueMeans
from xoctnorm.gpu import UseGPU, circumstance, loops_on_host, streamed, use_problems
from xoctnorm.kernels.backend import as_array, namespace, on_host, to_host
from xoctnorm.kernels.digest import MODULUS
from xoctnorm.memory import give_back
from xoctnorm.metadata import RESERVED, TABLE_COORDS, describe
from xoctnorm.sections import ADD_SECTIONS, Sections, find_sections, plane_dims
from xoctnorm.statistics import Survey, survey
from xoctnorm.text import escaped, holdable
from xoctnorm.threads import shared_threads
from xoctnorm.volume import Planes, Volume, extra_dims, volume_dims

_ONE_SECTION = Sections((0,), np.zeros(1, np.int64), np.zeros(1, np.int64))  # where those of the volume are wrong


@dataclass(frozen=True)
class Call:
    """What the user called, with all parameters, for messages and for the record."""

    method: str
    parameters: Mapping[str, Any]


def fit(
    da: xr.DataArray,
    corrections: Sequence[Correction],
    call: Call,
    *,
    section: str,
    agarose_mask: Mask | None = None,
    tissue_mask: Mask | None = None,
    seeds: Mask | None = None,
    noise_mask: Mask | None = None,
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
    use_gpu: UseGPU = False,
) -> xr.Dataset:
    """Fit corrections to a volume, each to what the earlier ones leave, and describe what was found.

    Further dims of the volume are fitted one by one. `problems` and `notes` are those that the caller
    knows of: problems are raised with those found here, notes become warnings and part of the record.
    """
    problems = list(dict.fromkeys([*problems, *use_problems(use_gpu)]))
    given = {"agarose_mask": agarose_mask, "mask": tissue_mask, "seeds": seeds, "noise_floor": noise_mask}
    sections, masks = checked(da, call, section, given, problems)
    notes = [*notes, *_notes(corrections, sections), *_deep_chunks(da, section)]
    further = extra_dims(da, section)
    sizes = tuple(da.sizes[dim] for dim in further)
    parts, digest = [], 0
    decisions: list[str] = []
    decibels = any(isinstance(c, Linearize) and c.intensity in (AUTO, "db") for c in corrections)
    index = sections.index if any(c.wants_section_means for c in corrections) else None
    sampled = any(c.wants_section_percentile is not None for c in corrections)
    wanted = [after.wants_percentile for one, after in pairwise(corrections) if one.keeps_order]
    # On a device halves of bins, and values that are copied from between two, save nothing.
    on_host = loops_on_host(da.variable, use_gpu)
    means = on_host and any(one.finds_tissue_means and after.wants_tissue_means for one, after in pairwise(corrections))
    of_sections = [
        after.wants_section_percentile
        for one, after in pairwise(corrections)
        if one.finds_section_percentiles and on_host and len(sections) > 1
    ]
    # A mask that the user gave for every plane is read beside the volume.
    reads = sum(reads_of_fit(corrections, len(sections), on_host=on_host).values()) + ("mask" in masks)
    with shared_threads(), progress.job(call.method, reads * len(sections.index) * int(np.prod(sizes))):
        for number, place in enumerate(np.ndindex(sizes)):
            at = dict(zip(further, place, strict=True))
            where = "".join(f"{dim} {index}: " for dim, index in at.items())
            try:
                data = streamed(da.variable.transpose(*volume_dims(da, section)).isel(at), use_gpu)
                noise = _noise_part(masks.get("noise_floor"), at, data.dims)
                outside = None if noise is None or noise.ndim > 2 else values_on_host(noise).astype(bool)
                part, part_notes, part_decisions, of_values = _fit_volume(
                    Volume(
                        data,
                        sections=sections,
                        survey=first_read(data, call, number, index, outside, sampled=sampled, decibels=decibels),
                        agarose=_agarose_part(masks.get("agarose_mask"), at, sections, data),
                        tissue=_tissue_part(masks.get("mask"), at, data.dims),
                        seeds=_agarose_part(masks.get("seeds"), at, sections, data),
                        pixel_area=_pixel_area(da),
                        units=None if da.attrs.get("units") is None else str(da.attrs["units"]),
                        described=" ".join(str(part) for part in (da.name, da.attrs.get("long_name")) if part),
                        depth=coordinate_of_planes(da, "depth", section),
                        position=coordinate_of_planes(da, "position", section),
                        noise=noise,
                        ends=next((PlaneEnds(q) for q in wanted if q is not None), None),
                        means=TissueMeans() if means else None,
                        section_percentiles=next((SectionPercentiles(q) for q in of_sections if q is not None), None),
                    ),
                    corrections,
                )
            except InputError as error:
                raise InputError(call.method, [where + problem for problem in error.problems]) from None
            parts.append(part)
            notes += [where + note for note in part_notes]
            decisions += [where + decision for decision in part_decisions]
            digest = (digest + of_values) % MODULUS

    fitted = _stack(parts, further, sizes)
    step = provenance.new_step(
        call.method,
        call.parameters,
        [{"name": c.name, "parameters": c.parameters()} for c in corrections],
        provenance.identity(da, digest),
        notes,
        circumstance(da.variable, use_gpu),
    )
    step["decisions"] = decisions
    step["linearized"] = bool("intensity_scale" in fitted and (fitted["intensity_scale"] != 0).any())
    step["section"] = {"name": section, "dims": list(plane_dims(da, section)), "explicit": sections.explicit}
    for note in notes:
        warn(note)
    return _labelled(fitted, da, sections, step)


def reads_of_fit(corrections: Sequence[Correction], n_sections: int, *, on_host: bool) -> dict[str, int]:
    """Times that fitting reads the volume, by what reads: once to survey it, and what each correction needs.

    What one correction wants to know may be found in a read of the one before, some of it on the host alone.
    """
    reads = {one.name.replace("_", " "): one.reads(n_sections) for one in corrections}
    for before, one in pairwise(corrections):
        if before.keeps_order and one.wants_percentile is not None:
            reads[one.name.replace("_", " ")] = 0
        if on_host and before.finds_section_percentiles and one.wants_section_percentile is not None:
            reads[one.name.replace("_", " ")] = 0
        if on_host and before.finds_tissue_means and one.wants_tissue_means and n_sections > 1:
            reads[one.name.replace("_", " ")] = 0
    return {"first read": 1, **{name: times for name, times in reads.items() if times}}


def first_read(
    data: xr.Variable,
    call: Call,
    number: int = 0,
    section_index: NDArray[np.int64] | None = None,
    outside: NDArray[np.bool_] | None = None,
    *,
    sampled: bool = False,
    decibels: bool = False,
) -> Survey:
    """Read volume `number` of those with the same planes once, and refuse what cannot be corrected."""
    progress.phase("first read")
    n_planes, start = int(np.prod(data.shape[:-2])), number * int(np.prod(data.shape))
    cluster = None if data.chunks is None else client_of(data.data)
    if cluster is not None:
        first = surveyed_by_workers(cluster, data, start, section_index, outside, sampled=sampled)
    else:
        first = survey(Planes(data).raw_blocks(), n_planes, start, section_index, outside, sampled=sampled)
    raise_problems(call.method, first.problems(decibels=decibels))
    return first


def checked(
    da: xr.DataArray, call: Call, section: str, given: Mapping[str, Mask | None], problems: Sequence[str]
) -> tuple[Sections, dict[str, xr.DataArray]]:
    """Sections and labelled masks; or one error with everything that metadata tell to be wrong."""
    found = volume_problems(da)
    if found:
        raise_problems(call.method, [*problems, *found])
    found += problems
    for name in ("depth", "position"):
        if name in da.coords and set(da.coords[name].dims) == set(plane_dims(da, section)):
            found += coordinate_problems(name, da.coords[name].to_numpy())
    if section in RESERVED:
        found.append(f"section={section!r} is a name that a correction needs for itself: rename that coordinate")
    sections = None
    with collecting(found):
        sections = find_sections(da, section)
    masks = {}
    for name, mask in given.items():
        if mask is None:
            continue
        with collecting(found):
            if name == "mask" or (name == "noise_floor" and np.ndim(mask) != 2):
                masks[name] = labelled_mask(name, mask, da, (*plane_dims(da, section), "y", "x"))
                continue
            if name == "noise_floor":
                masks[name] = labelled_mask(name, mask, da, ("y", "x"))
                continue
            masks[name] = labelled_agarose(name, mask, da, section, sections or _ONE_SECTION)
            if name == "agarose_mask":
                raise_problems(name, coverage_problems(name, as_array(masks[name].transpose(..., "y", "x").data)))
            elif not to_host(as_array(masks[name].data).any()):
                raise_problems(name, ["seeds is False everywhere: make it True on some pixels that are agarose"])
    raise_problems(call.method, found)
    assert sections is not None
    return sections, masks


def labelled_mask(name: str, mask: Mask, da: xr.DataArray, dims: tuple[str, ...]) -> xr.DataArray:
    """Give a plain mask the dims of the volume that it must have, and check that it fits."""
    if not isinstance(mask, xr.DataArray):
        ordered = dims if len(dims) == 2 else tuple(str(dim) for dim in da.dims if dim in dims)
        array = as_array(mask)
        if array.ndim != len(ordered):
            raise_problems(name, [f"{name} has shape {array.shape}: a plain array needs the dims {ordered}"])
        mask = xr.DataArray(array, dims=ordered)
    raise_problems(name, mask_problems(name, mask, da, dims))
    return mask


def _notes(corrections: Sequence[Correction], sections: Sections) -> list[str]:
    """What the user should know before anything is read."""
    notes = []
    between = [c for c in corrections if isinstance(c, PercentileScale | HistogramMatch | QuantileMatch | TissueDrift)]
    if between and not sections.explicit:
        notes.append(
            "the volume has no coordinate 'section', so it is one section and nothing is corrected between "
            f"sections: {ADD_SECTIONS}"
        )
    return notes


def _deep_chunks(da: xr.DataArray, section: str) -> list[str]:
    """What to say where chunks of the file are deeper than what is read at once."""
    depth = da.encoding.get("preferred_chunks", {}).get("z", 1)
    if da.chunks is None or depth > da.sizes["z"]:
        return []
    together, times = reopened(da.variable.transpose(*volume_dims(da, section)), depth)
    if times == 1:
        return []
    return [
        f"the file has chunks of {depth} planes, and a layer of them is too large to be read at once: planes are read "
        f"{together} at a time, so that every chunk is opened {times} times in each read. Write the volume once in "
        f"flatter chunks: da.drop_encoding().chunk(z={together}).to_zarr('flat.zarr')"
    ]


def _fit_volume(volume: Volume, corrections: Sequence[Correction]) -> tuple[xr.Dataset, list[str], list[str], int]:
    """Fitted numbers, notes, decisions, and the digest of the values."""
    fitted = xr.Dataset({"section_index": volume.per_plane(volume.sections.index)})
    notes: list[str] = []
    decisions: list[str] = []
    for correction in corrections:
        progress.phase(correction.name.replace("_", " "))
        part, part_notes = correction.fit(volume)
        # Variables, not labelled arrays: these would be aligned with each other, which takes a millisecond.
        fitted = fitted.assign({name: part.variables[name] for name in part.data_vars})
        if part.coords:
            fitted = fitted.assign_coords(part.coords)
        notes += part_notes
        decisions += part.attrs.get("decisions", [])
        if "agarose_mask" in part:
            agarose = AgaroseMask(part["agarose_mask"].variable, volume.sections.index)
            # Mean projections, which may be many, have told where it is: from here on they are not needed.
            survey = replace(volume.survey, mean=np.empty((0, 0)), section_images=None)
            volume = replace(volume, agarose=agarose, survey=survey)
        volume = correction.apply(volume, fitted)
        if volume.data.nbytes > BLOCK_BYTES:
            give_back()
    return fitted, notes, decisions, volume.survey.digest


def _agarose_part(
    mask: xr.DataArray | None, at: Mapping[str, int], sections: Sections, data: xr.Variable
) -> AgaroseMask | None:
    """Masks of one volume in memory: on the host, but those of planes that are where the volume is."""
    if mask is None:
        return None
    part = mask.variable.isel({d: i for d, i in at.items() if d in mask.dims}).transpose(..., "y", "x")
    stays = set(part.dims) == set(data.dims) and not on_host(memory_of(data))
    return AgaroseMask(part.copy(data=as_array(part.data) if stays else values_on_host(part)), sections.index)


def _pixel_area(da: xr.DataArray) -> float:
    """Area of a pixel, in units of y times units of x; 1 for an axis without a numeric coordinate."""
    area = 1.0
    for dim in ("y", "x"):
        if dim in da.coords and da.coords[dim].dtype.kind in "iuf" and da.sizes[dim] > 1:
            spacing = float(np.median(np.abs(np.diff(da.coords[dim].to_numpy().astype(float)))))
            area *= spacing if np.isfinite(spacing) and spacing > 0 else 1.0
    return area


def coordinate_of_planes(da: xr.DataArray, name: str, section: str) -> NDArray[np.float64] | None:
    """A coordinate of the user's for every plane, in plane order; None where it lies along anything else."""
    dims = plane_dims(da, section)
    if name not in da.coords or name in da.dims or set(da.coords[name].dims) != set(dims):
        return None
    values: NDArray[np.float64] = da.coords[name].transpose(*dims).to_numpy().astype(float).reshape(-1)
    return values


def _noise_part(mask: xr.DataArray | None, at: Mapping[str, int], dims: tuple[Any, ...]) -> xr.Variable | None:
    if mask is None:
        return None
    part = mask.variable.isel({d: i for d, i in at.items() if d in mask.dims})
    return part.transpose(*(dims if len(part.dims) > 2 else ("y", "x")))


def _tissue_part(mask: xr.DataArray | None, at: Mapping[str, int], dims: tuple[Any, ...]) -> xr.Variable | None:
    if mask is None:
        return None
    return mask.variable.isel({d: i for d, i in at.items() if d in mask.dims}).transpose(*dims)


def _stack(parts: Sequence[xr.Dataset], further: tuple[str, ...], sizes: tuple[int, ...]) -> xr.Dataset:
    """One Dataset of those of all volumes: fitted numbers get the further dims, structure does not."""
    first = parts[0]
    if not further:
        return first.set_coords([name for name in TABLE_COORDS if name in first])
    structure = {name: first[name].variable for name in TABLE_COORDS if name in first}
    fitted = {}
    for name in first.variables:
        if name not in structure:
            values = namespace(as_array(first[name].data)).stack([as_array(part[name].data) for part in parts])
            one = first[name]
            fitted[name] = ((*further, *one.dims), values.reshape(*sizes, *one.shape))
    return xr.Dataset(fitted, coords=structure)


def _labelled(fitted: xr.Dataset, da: xr.DataArray, sections: Sections, step: Mapping[str, Any]) -> xr.Dataset:
    """Add coordinates, the table of sections, units and the record."""
    labels = sections.label_values()
    coords: dict[str, Any] = {
        "section_label": ("section_label", labels),
        "first_plane": ("section_label", sections.first_plane),
        "n_planes": ("section_label", sections.n_planes),
    }
    for dim in fitted.dims:
        if dim in da.coords and not isinstance(da.indexes.get(dim), pd.MultiIndex):
            coord = da.coords[dim]
            coords[str(dim)] = (dim, coord.to_numpy(), _writable(coord.attrs))
    name = step["section"]["name"]
    if sections.explicit and name not in da.dims:
        coords[name] = ("z", labels[sections.index])
    described = describe(fitted.assign_coords(coords), "1" if step["linearized"] else da.attrs.get("units"))
    step = {**step, "correction_digest": provenance.values_digest(described)}
    steps = ", ".join(one["name"].replace("_", " ") for one in step["corrections"])
    of = f"{len(sections)} section{'s' if len(sections) > 1 else ''} of {step['fitted_on']['name'] or 'a volume'}"
    described.attrs = {
        "title": escaped(f"correction of intensities ({steps}) for {of}"),
        "history": provenance.history_line(step),
        provenance.ATTRIBUTE: provenance.record([step]),
    }
    return described


def _writable(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Attributes of a coordinate that every file format takes."""
    return {
        str(name): value
        for name, value in attrs.items()
        if (isinstance(value, int | float | np.number) and not isinstance(value, bool))
        or (isinstance(value, str) and holdable(value))
    }
