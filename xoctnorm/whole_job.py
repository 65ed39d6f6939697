"""The whole job made ready: what follows from a call of `normalize` before anything is read."""

from __future__ import annotations

from dataclasses import dataclass

import xarray as xr

from xoctnorm.agarose import Mask
from xoctnorm.applying import Form, already_normalized
from xoctnorm.corrections import METHODS, Correction
from xoctnorm.errors import listed
from xoctnorm.floors import going_on, without_noise_mask
from xoctnorm.settings import Normalization


@dataclass(frozen=True)
class WholeJob:
    """The whole job, ready to be fitted.

    Attributes
    ----------
    settings
        What the user asked for, as far as it has an effect.
    corrections
        In their order.
    agarose_mask, noise_mask
        Masks that the user gave.
    problems
        What is wrong with the call.
    notes
        What the user should know of it.
    """

    settings: Normalization
    corrections: list[Correction]
    agarose_mask: Mask | None
    noise_mask: Mask | None
    problems: list[str]
    notes: list[str]


def whole_job(
    da: xr.DataArray, settings: Normalization, agarose_mask: Mask | str | None, form: Form | None
) -> WholeJob:
    """Make the whole job ready; `form` is that of the result, where one is asked for."""
    settings, noise_mask = without_noise_mask(da, settings)
    goes_on: list[str] = []
    if not settings.by_reference:
        settings, noise_mask, goes_on = going_on(da, settings, noise_mask)
    corrections = settings.corrections(agarose_mask)
    by_name = isinstance(agarose_mask, str)
    return WholeJob(
        settings,
        corrections,
        None if isinstance(agarose_mask, str) else agarose_mask,
        noise_mask,
        problems=[
            *settings.problems(),
            *(method_problems("agarose_mask", agarose_mask, "a bool mask, or ") if by_name else []),
            *(form.problems(da) if form is not None else []),
        ],
        notes=[*settings.notes(agarose_mask), *goes_on, *already_normalized(da, corrections)],
    )


def method_problems(name: str, value: object, before: str = "") -> list[str]:
    """What is wrong with the name of a method that finds agarose."""
    known = isinstance(value, str) and value in METHODS
    return [] if known else [f"{name}={value!r}: needs {before}one of {listed([repr(m) for m in METHODS])}"]
