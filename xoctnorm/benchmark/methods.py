"""The methods of the benchmark, as data: the options of `normalize` that each stands for."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import xoctnorm  # registers the accessor
from xoctnorm.benchmark.truth import Truth, response_of
from xoctnorm.corrections.tissue_drift import METHODS as TISSUE_METHODS


@dataclass(frozen=True)
class Method:
    """One way to normalize a volume.

    Attributes
    ----------
    name : str
        Name on the command line.
    title : str
        Name in tables.
    options : mapping or None
        Options of `normalize`; None for what is no method of the package.
    flattens : bool
        Whether the result is meant to be without decay along depth; else with it.
    """

    name: str
    title: str
    options: Mapping[str, Any] | None = field(default_factory=dict)
    flattens: bool = False


class Outcome(NamedTuple):
    """What a method returns, and how long it took."""

    result: xr.DataArray
    correction: xr.Dataset | None
    seconds: float


_PER_PLANE = {"drift": "histogram", "section": "z"}

_REFERENCE = (
    Method("scale-10", "scale factors, sigma 10 (the reference's default)", {"drift": "scale", "smooth_sigma": 10.0}),
    Method("scale-0.5", "scale factors, sigma 0.5", {"drift": "scale", "smooth_sigma": 0.5}),
    Method("histogram", "histogram matching per section", {"drift": "histogram"}),
    Method("histogram-plane", "histogram matching per plane", _PER_PLANE, flattens=True),
    Method(
        "histogram-plane-zprofile",
        "per plane, then z-profile sigma 2 (the reference's recommendation)",
        {**_PER_PLANE, "zprofile_sigma": 2.0},
        flattens=True,
    ),
)


def _kept_and_flattened(drift: str) -> tuple[Method, Method]:
    return (
        Method(drift, f"{drift}, decay kept", {"drift": drift}),
        Method(f"{drift}-flat", f"{drift}, flattened", {"drift": drift, "flatten_depth": True}, flattens=True),
    )


_ALL = (
    Method("truth", "the true gains", None),
    Method("truth-flat", "the true gains and decay, flattened", None, flattens=True),
    Method("nothing", "nothing", None),
    *_REFERENCE,
    *(method for drift in ("quantile", "agarose", "continuity", "joint") for method in _kept_and_flattened(drift)),
)

METHODS = {method.name: method for method in _ALL}
"""All methods by name, in the order of the tables."""


def run(method: Method, phantom: xr.Dataset, truth: Truth, known: Mapping[str, Any] | None = None) -> Outcome:
    """Normalize the volume of a phantom; `known` are options of the model of tissue that its user would give."""
    volume = phantom["volume"]
    if method.options is None:
        values = truth.linear / np.nanmax(truth.linear)
        if method.name != "nothing":
            values = _perfect(phantom, truth, method.flattens)
        return Outcome(volume.copy(data=values), None, 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xoctnorm.OctnormWarning)  # they are told to users, and here by the measures
        start = time.perf_counter()
        models = method.options["drift"] in (*TISSUE_METHODS, "quantile")  # whose jitter the model takes out
        correction = volume.octnorm.fit(**method.options, **(known if models and known is not None else {}))
        result = volume.octnorm.apply(correction)
        seconds = time.perf_counter() - start
    return Outcome(result, correction, seconds)


def _perfect(phantom: xr.Dataset, truth: Truth, flatten: bool) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What the true floor, gains and, where asked for, decay make of the input."""
    factor = truth.gain * (response_of(phantom) if flatten else 1.0)
    values = (truth.linear - float(phantom["noise_floor"])) / factor[:, np.newaxis, np.newaxis]
    return np.asarray(np.clip(values / np.nanmax(values), 0, 1))
