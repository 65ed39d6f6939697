"""What the methods of the accessor do: corrections put together, fitted and applied."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from xoctnorm import provenance
from xoctnorm.agarose import SECTIONS, Mask, along_planes, labelled_agarose
from xoctnorm.applying import Form, corrected, described
from xoctnorm.blocks import memory_of
from xoctnorm.checks import dims_problems, volume_problems
from xoctnorm.corrections import (
    METHODS,
    BorderMask,
    Correction,
    FoundMask,
    GivenMask,
    Linearize,
    OtsuMask,
    PercentileScale,
    QuantileMatch,
    ZProfile,
)
from xoctnorm.corrections.tissue_drift import METHODS as TISSUE_METHODS
from xoctnorm.errors import collecting, listed, raise_problems
from xoctnorm.fitting import Call, fit, labelled_mask
from xoctnorm.floors import going_on, without_noise_mask
from xoctnorm.gpu import UseGPU
from xoctnorm.kernels.backend import alike, as_array, namespace
from xoctnorm.kernels.digest import digest
from xoctnorm.sections import find_sections, plane_dims, section_labels, sections_table
from xoctnorm.settings import USE_GPU, Normalization
from xoctnorm.whole_job import method_problems, whole_job

AGAROSE_TABLES = ("agarose_origin", "agarose_separability", "agarose_coverage", "agarose_contact")


def fit_normalization(
    da: xr.DataArray,
    settings: Normalization,
    agarose_mask: Mask | str | None,
    form: Form | None = None,
    use_gpu: UseGPU = USE_GPU,
) -> xr.Dataset:
    """Fit the whole job; `form` is that of the result, where it follows at once."""
    job = whole_job(da, settings, agarose_mask, form)
    parameters = {"agarose_mask": _named(agarose_mask), **asdict(job.settings)}
    if job.noise_mask is not None:
        parameters["noise_floor"] = _named(job.noise_mask)
    call = Call("fit", {**parameters, "use_gpu": use_gpu})
    if form is not None:
        call, use_gpu = Call("normalize", parameters | form.record()), form.use_gpu
    return fit(
        da,
        job.corrections,
        call,
        section=settings.section,
        agarose_mask=job.agarose_mask,
        noise_mask=job.noise_mask,
        problems=job.problems,
        notes=job.notes,
        use_gpu=use_gpu,
    )


def normalize(da: xr.DataArray, settings: Normalization, agarose_mask: Mask | str | None, form: Form) -> xr.DataArray:
    """Fit the whole job and apply it to the same volume."""
    return normalize_and_keep(da, settings, agarose_mask, form)[0]


def normalize_and_keep(
    da: xr.DataArray, settings: Normalization, agarose_mask: Mask | str | None, form: Form
) -> tuple[xr.DataArray, xr.Dataset]:
    """The result of `normalize`, and the correction that led to it."""
    correction = fit_normalization(da, settings, agarose_mask, form)
    return _applied(da, correction, form), correction


def single_step(
    da: xr.DataArray,
    correction: Correction,
    form: Form,
    *,
    method: str,
    section: str,
    problems: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> xr.DataArray:
    """Fit one correction between sections and apply it to the same volume."""
    fitted = fit(
        da,
        [correction],
        Call(method, {**correction.parameters(), "section": section, **form.record()}),
        section=section,
        problems=list(dict.fromkeys([*problems, *correction.problems(), *form.problems(da)])),
        notes=notes,
        use_gpu=form.use_gpu,
    )
    return _applied(da, fitted, form)


def correct_drift(
    da: xr.DataArray, settings: Normalization, agarose_mask: Mask | str | None, form: Form
) -> xr.DataArray:
    """Fit drift between sections and apply it: by the model of tissue, or by percentile scaling."""
    settings, noise_mask = without_noise_mask(da, settings)
    drift = settings.drift
    known = [*TISSUE_METHODS, PercentileScale.name]
    problems = [] if drift in known else [f"method={drift!r}: needs one of {listed([repr(m) for m in known])}"]
    problems += (settings if drift in known else replace(settings, drift=PercentileScale.name)).problems()
    by_scale = drift == PercentileScale.name
    used = set((settings.scale if by_scale else settings.tissue_drift).parameters()) | {"drift", "section"}
    idle = settings.idle(used if by_scale else used | {"intensity"})
    if by_scale and agarose_mask is not None:
        idle.append("agarose_mask")
    notes = [f"{listed(idle)} has no effect with method={drift!r}"] if idle else []
    if not by_scale:
        return _tissue_step(da, settings, agarose_mask, noise_mask, form, "correct_drift", problems, notes)
    step = {"method": "correct_drift", "section": settings.section}
    return single_step(da, settings.scale, form, **step, problems=problems, notes=notes)


def flatten_depth(
    da: xr.DataArray, settings: Normalization, agarose_mask: Mask | str | None, form: Form
) -> xr.DataArray:
    """Fit the decay with depth by the model of tissue and apply it."""
    settings, noise_mask = without_noise_mask(da, settings)
    return _tissue_step(da, settings, agarose_mask, noise_mask, form, "flatten_depth", settings.problems(), [])


def _tissue_step(
    da: xr.DataArray,
    settings: Normalization,
    agarose_mask: Mask | str | None,
    noise_mask: Mask | None,
    form: Form,
    method: str,
    problems: Sequence[str],
    notes: Sequence[str],
) -> xr.DataArray:
    """Fit by the model of tissue and apply, without scaling to 0…1."""
    settings, noise_mask, goes_on = going_on(da, settings, noise_mask)
    notes = [*notes, *goes_on]
    attached = attached_agarose(da) if agarose_mask is None else None
    if attached is not None and bool(attached.any()):
        agarose_mask = attached
    correction = settings.tissue_drift
    parameters = {
        "agarose_mask": _named(agarose_mask),
        **correction.parameters(),
        "intensity": settings.intensity,
        "section": settings.section,
        **form.record(),
    }
    by_name = isinstance(agarose_mask, str)
    fitted = fit(
        da,
        [settings.mask(agarose_mask), Linearize(settings.intensity), correction],
        Call(method, parameters),
        section=settings.section,
        agarose_mask=None if isinstance(agarose_mask, str) else agarose_mask,
        noise_mask=noise_mask,
        problems=[
            *problems,
            *(method_problems("agarose_mask", agarose_mask, "a bool mask, or ") if by_name else []),
            *form.problems(da),
        ],
        notes=notes,
        use_gpu=form.use_gpu,
    )
    return _applied(da, fitted, form)


def scale_factors(da: xr.DataArray, correction: PercentileScale, *, section: str) -> xr.DataArray:
    """Factors of drift by percentile scaling, one for every plane."""
    call = Call("scale_factors", {**correction.parameters(), "section": section})
    fitted = fit(da, [correction], call, section=section, problems=correction.problems())
    return _alone(fitted, "scale_factor", da)


def match_quantiles(
    da: xr.DataArray, correction: QuantileMatch, mask: Mask | str | None, form: Form, *, section: str
) -> xr.DataArray:
    """Match quantiles of what is neither empty nor agarose: as given, attached, or found by a method."""
    by_name = isinstance(mask, str)
    agarose = None if isinstance(mask, str) else mask if mask is not None else attached_agarose(da)
    if isinstance(mask, str):
        finding: Correction = METHODS.get(mask, OtsuMask)(per_section=True)
    else:
        finding = GivenMask() if agarose is not None else BorderMask(per_section=True, required=False)
    parameters = {**correction.parameters(), "agarose_mask": _named(mask), "section": section, **form.record()}
    fitted = fit(
        da,
        [finding, correction],
        Call("match_quantiles", parameters),
        section=section,
        agarose_mask=agarose,
        problems=[
            *(method_problems("agarose_mask", mask, "a bool mask, or ") if by_name else []),
            *correction.problems(),
            *form.problems(da),
        ],
        use_gpu=form.use_gpu,
    )
    return _applied(da, fitted, form)


def smooth_zprofile(
    da: xr.DataArray, correction: ZProfile, mask: Mask | None, form: Form, *, section: str
) -> xr.DataArray:
    """Fit the gains along z and apply them: to whole planes, or within the mask that was given."""
    agarose = None if mask is not None else attached_agarose(da)
    masks: list[Correction] = [] if mask is not None else [OtsuMask() if agarose is None else GivenMask()]
    parameters = {**correction.parameters(), "mask": _named(mask), "section": section, **form.record()}
    fitted = fit(
        da,
        [*masks, correction],
        Call("smooth_zprofile", parameters),
        section=section,
        agarose_mask=agarose,
        tissue_mask=mask,
        problems=[*correction.problems(), *form.problems(da)],
        use_gpu=form.use_gpu,
    )
    result = _applied(da, fitted, form)
    if mask is None:
        return result
    inside = labelled_mask("mask", mask, da, (*plane_dims(da, section), "y", "x")).variable.set_dims(da.sizes)
    before = unread(da)
    if result.chunks is None:
        within = alike(as_array(inside.transpose(*da.dims).data), result.data)
        namespace(result.data).copyto(result.data, before.data, where=~within, casting="unsafe")
        return result
    return result.copy(data=_voxelwise(_chosen, inside, result.variable, before).transpose(*da.dims).data)


def _chosen(inside: Any, changed: Any, before: Any) -> Any:
    return namespace(changed).where(alike(inside, changed), changed, before.astype(changed.dtype))


def _voxelwise(function: Callable[..., Any], mask: xr.Variable, *values: xr.Variable) -> xr.Variable:
    """What follows from a mask, on the host or beside the values, and values, lazily where these are chunked."""
    like = memory_of(values[0])
    meta = function(like.astype(bool), *(like for _ in values))
    result: xr.Variable = xr.apply_ufunc(
        function, mask, *values, dask="parallelized", dask_gufunc_kwargs={"meta": meta}
    )
    return result


def agarose_mask(
    da: xr.DataArray, method: str, parameters: Mapping[str, Any], seeds: Mask | None, *, section: str
) -> xr.DataArray:
    """Agarose mask of a volume, with what was found out about it."""
    problems = method_problems("method", method)
    correction = METHODS.get(str(method), OtsuMask)(**parameters)
    asked = {"method": method, **FoundMask(**parameters).parameters(), "seeds": _named(seeds), "section": section}
    fitted = fit(
        da,
        [correction],
        Call("agarose_mask", asked),
        section=section,
        seeds=seeds,
        problems=[*problems, *correction.problems()],
    )
    found = [name for name in ("otsu_threshold", *AGAROSE_TABLES) if name in fitted]
    return _alone(fitted.set_coords(found), "agarose_mask", da)


def tissue_mask(da: xr.DataArray, mask: Mask | None, correction: OtsuMask, *, section: str) -> xr.DataArray:
    """What is neither agarose nor empty, lazily where the volume is chunked."""
    problems = [*volume_problems(da), *correction.problems()]
    agarose = attached_agarose(da)
    sections = None
    if (mask is not None or agarose is not None) and not problems:
        with collecting(problems):
            sections = find_sections(da, section)
            given = mask if mask is not None else agarose
            assert given is not None
            agarose = labelled_agarose("agarose_mask", given, da, section, sections)
    raise_problems("tissue_mask", problems)
    if agarose is None:
        agarose = agarose_mask(da, "otsu", correction.parameters(), None, section=section)
    values = unread(da)
    outline = agarose.variable
    if sections is not None:
        planes = plane_dims(da, section)
        rows = xr.Variable(planes, sections.index.reshape([da.sizes[dim] for dim in planes]))
        outline = along_planes(outline, rows, values)
    tissue = _voxelwise(_not_empty, outline, values).transpose(*da.dims)
    result = da.drop_vars([name for name, coord in da.coords.items() if provenance.is_ours(coord)])
    result = result.copy(deep=False, data=tissue.data).rename("tissue_mask")
    result.attrs = {"long_name": "tissue: neither agarose nor empty", "units": "1"}
    result.encoding = {}
    return result


def _not_empty(outline: Any, values: Any) -> Any:
    return ~alike(outline.astype(bool), values) & (values != 0) & (values == values)


def assign_sections(
    da: xr.DataArray, n: int | None, thickness: float | None, starts: Sequence[int] | None
) -> xr.DataArray:
    """Add the coordinate `section` along z."""
    problems = dims_problems(da, ("z",))
    if "section" in da.dims or "section" in da.coords:
        problems.append(
            "the volume already has a section coordinate or dimension: drop it first with "
            "da.drop_vars('section'), or rename it"
        )
    raise_problems("assign_sections", problems)
    labels = section_labels(da, n=n, thickness=thickness, starts=starts)
    return da.assign_coords(section=("z", labels, {"long_name": "serial section", "units": "1"}))


def sections_of(da: xr.DataArray) -> pd.DataFrame:
    """Table of the sections of a volume."""
    raise_problems("sections", dims_problems(da, ("z",)))
    return sections_table(da, find_sections(da))


def unread(da: xr.DataArray) -> xr.Variable:
    """The values of a volume, so that reading them from a file does not load them into the volume of the user."""
    return da.variable[tuple(slice(None) for _ in da.dims)]


def attached_agarose(da: xr.DataArray) -> xr.DataArray | None:
    """The agarose mask that a former step attached."""
    if "agarose_mask" in da.coords and provenance.is_ours(da.coords["agarose_mask"]):
        mask: xr.DataArray = da.coords["agarose_mask"]
        return mask if mask.dtype == bool else mask.astype(bool)
    return None


def _applied(da: xr.DataArray, correction: xr.Dataset, form: Form) -> xr.DataArray:
    step = provenance.steps_of(correction.attrs)[-1]
    return described(corrected(da, correction, step, form), da, step, [correction.attrs["history"]])


def _alone(fitted: xr.Dataset, name: str, da: xr.DataArray) -> xr.DataArray:
    """One fitted variable, with dims in the order of the volume, and its record."""
    variable = fitted[name].drop_vars(["section_index", "first_plane", "n_planes"], errors="ignore")
    order = [dim for dim in da.dims if dim in variable.dims]
    if SECTIONS in variable.dims:
        order.insert(min(order.index("y"), order.index("x")), SECTIONS)
    variable = variable.transpose(*order)
    return variable.assign_attrs({name: value for name, value in fitted.attrs.items() if name != "title"})


def _named(mask: Mask | str | None) -> Any:
    """How a mask that the user gave is recorded: its shape and, where it is in memory, its digest."""
    if mask is None or isinstance(mask, str):
        return mask
    shape = "x".join(str(n) for n in np.shape(mask))
    if getattr(mask, "chunks", None) is not None or as_array(mask).dtype != bool:
        return f"<mask {shape}>"
    return f"<mask {shape} {provenance.digest_text(digest(as_array(mask), 0))}>"
