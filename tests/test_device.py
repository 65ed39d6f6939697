"""Everything on a device that acts like CuPy: results, what stays there, and what crosses to the host."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import dask.array
import numpy as np
import pytest
import strict_array
import xarray as xr
from conftest import brain, cut_brain
from strict_array import StrictArray, counted, strict

import xoctnorm
from xoctnorm import InputError, gpu, normalization
from xoctnorm.kernels import backend
from xoctnorm.provenance import steps_of

CHUNKS = (3, 17, 33)  # which split planes and sections


def on_device(da: xr.DataArray) -> xr.DataArray:
    return da.copy(data=strict(da.to_numpy()))


def in_chunks(da: xr.DataArray) -> xr.DataArray:
    return da.copy(data=dask.array.from_array(strict(da.to_numpy()), chunks=CHUNKS, asarray=False))


HOLDINGS = {"array": on_device, "chunks": in_chunks}


def normalized() -> xr.DataArray:
    return brain().octnorm.normalize(drift=None).drop_vars("agarose_mask")


class Operation(NamedTuple):
    """What is called, on which volume, and what may cross to the host: numbers per plane, whole planes, and more."""

    volume: Callable[[], xr.DataArray]
    call: Callable[[xr.DataArray], xr.DataArray]
    per_plane: int
    planes: int = 0
    more: int = 0


# Coarse planes that the model of tissue looks at on the host, of 6 sections: a mean and five views of each, and 24
# planes that tell the scale of intensity.
MODEL = 6 * (1 + 5) + 24
SUMS = 9 * 129  # of a plane over tiles of classes
OPERATIONS = {
    "normalize(drift=None)": Operation(brain, lambda da: da.octnorm.normalize(drift=None), 20, 1),
    "normalize(drift='scale')": Operation(brain, lambda da: da.octnorm.normalize(drift="scale"), 25, 1),
    "normalize(drift='histogram')": Operation(
        brain, lambda da: da.octnorm.normalize(drift="histogram"), 20, 1, 4 * 512
    ),
    "normalize(zprofile_sigma=1)": Operation(
        brain, lambda da: da.octnorm.normalize(drift="scale", zprofile_sigma=1.0), 28, 1
    ),
    "normalize()": Operation(cut_brain, lambda da: da.octnorm.normalize(), SUMS + 40, MODEL),
    "normalize(floor='agarose')": Operation(
        cut_brain, lambda da: da.octnorm.normalize(floor="agarose"), SUMS + 50, MODEL
    ),
    "normalize(drift='quantile')": Operation(
        cut_brain, lambda da: da.octnorm.normalize(drift="quantile"), SUMS + 300, MODEL
    ),
    "normalize(lateral='smooth')": Operation(
        cut_brain, lambda da: da.octnorm.normalize(flatten_depth=True, lateral="smooth"), SUMS + 40, MODEL
    ),
    "normalize(intensity='db')": Operation(
        lambda: (10 * np.log10(cut_brain())).assign_attrs(units="dB"),
        lambda da: da.octnorm.normalize(),
        SUMS + 40,
        MODEL - 24,
    ),
    "correct_drift()": Operation(cut_brain, lambda da: da.octnorm.correct_drift(), SUMS + 20, MODEL),
    "correct_drift('scale')": Operation(normalized, lambda da: da.octnorm.correct_drift(method="scale"), 20, 1),
    "flatten_depth()": Operation(cut_brain, lambda da: da.octnorm.flatten_depth(), SUMS + 20, MODEL),
    "match_histograms()": Operation(normalized, lambda da: da.octnorm.match_histograms(), 6, 1, 4 * 512),
    "match_quantiles()": Operation(cut_brain, lambda da: da.octnorm.match_quantiles(), 270, 6 + 1),
    "smooth_zprofile()": Operation(normalized, lambda da: da.octnorm.smooth_zprofile(), 6, 1),
    "smooth_zprofile(mask)": Operation(normalized, lambda da: da.octnorm.smooth_zprofile(mask=brain() > 0.3), 6, 1),
    "tissue_mask()": Operation(brain, lambda da: da.octnorm.tissue_mask(), 6, 1),
    "apply()": Operation(
        brain, lambda da: da.octnorm.apply(brain().octnorm.fit(drift="histogram", zprofile_sigma=1.0)), 2
    ),
    "chained": Operation(
        cut_brain, lambda da: da.octnorm.correct_drift().octnorm.flatten_depth(), 2 * SUMS + 50, 2 * MODEL
    ),
}


ONCE = (
    "normalize(floor='agarose')",
    "normalize(drift='agarose')",
    "normalize(intensity='db')",
    "chained",
    "flatten_depth()",
)
CASES = [(name, held) for name in OPERATIONS for held in HOLDINGS if held == "array" or name not in ONCE]


@cache
def on_the_host(name: str) -> tuple[xr.DataArray, xr.DataArray]:
    """The volume of an operation, and its result."""
    volume = OPERATIONS[name].volume()
    return volume, OPERATIONS[name].call(volume)


@pytest.mark.parametrize(("name", "held"), CASES)
def test_operations(name, held):
    operation, holding = OPERATIONS[name], HOLDINGS[held]
    volume, expected = on_the_host(name)
    before = holding(volume)
    with counted() as transfers:
        result = operation.call(before)
        lazy = result.chunks is not None
        values = result.data.compute() if lazy else result.data
    assert lazy == (before.chunks is not None)
    assert isinstance(values, StrictArray)
    assert not lazy or isinstance(result.data._meta, StrictArray)
    assert values.dtype == expected.dtype
    assert result.dims == expected.dims
    np.testing.assert_allclose(values.to_device("cpu"), expected, rtol=0, atol=2e-6)
    for name, coord in expected.coords.items():  # order statistics and what follows from them: exactly
        xr.testing.assert_equal(result.coords[name].variable.compute(), coord.variable)
    n_planes, pixels = volume.sizes["z"], volume.sizes["y"] * volume.sizes["x"]
    allowed = operation.per_plane * n_planes + operation.planes * pixels + operation.more
    assert sum(transfers.to_host) <= allowed
    assert max(transfers.to_host, default=0) <= max(pixels * 5 * 6 if operation.planes > 1 else pixels, operation.more)
    (step, *_) = steps_of(result.attrs)[-1:] or [None]
    if step is not None:
        assert "strict" in step.get("apply", step)["device"]


@pytest.mark.parametrize(
    "options", [{"drift": "scale"}, {"drift": "histogram", "zprofile_sigma": 1.0}, {"drift": None}], ids=str
)
@pytest.mark.parametrize("held", HOLDINGS)
def test_reads_are_those_of_the_plan(monkeypatch, options, held):
    read: list[int] = []
    monkeypatch.setattr("xoctnorm.progress.advance", lambda n_planes=1: read.append(n_planes))
    volume = HOLDINGS[held](brain())
    planned = volume.octnorm.plan(**options).fit_reads
    volume.octnorm.fit(**options)
    assert sum(read) == planned * volume.sizes["z"]


@pytest.mark.parametrize("holding", HOLDINGS.values(), ids=HOLDINGS)
def test_what_is_small_comes_to_the_host(holding):
    volume, n = brain(), normalized()
    for name in ("agarose_mask", "scale_factors"):
        one = n if name == "scale_factors" else volume
        xr.testing.assert_equal(getattr(holding(one).octnorm, name)(), getattr(one.octnorm, name)())
    fitted, expected = (one.octnorm.fit(drift="histogram", zprofile_sigma=1.0) for one in (holding(volume), volume))
    by_halves = ["zprofile_mean", "zprofile_smoothed", "zprofile_gain"]  # of bins, on the host
    xr.testing.assert_equal(fitted.drop_vars(by_halves), expected.drop_vars(by_halves))
    xr.testing.assert_allclose(fitted, expected, rtol=1e-6)
    (ours,), (theirs,) = (steps_of(one.attrs) for one in (fitted, volume.octnorm.fit(drift=None)))
    assert ours["fitted_on"]["digest"] == theirs["fitted_on"]["digest"]


@pytest.mark.parametrize("kind", ["missing", "integers", "double", "transposed", "channels"])
def test_other_volumes(kind):
    volume = brain()
    if kind == "missing":
        volume = volume.where(np.random.default_rng(0).random(volume.shape) > 0.1)
        volume[3] = np.nan
    elif kind == "integers":
        volume = (volume * 1000).astype(np.uint16)
    elif kind == "double":
        volume = volume.astype(np.float64)
    elif kind == "transposed":
        volume = volume.transpose("x", "z", "y")
    else:
        volume = xr.concat([volume, 2 * volume], "channel")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xoctnorm.OctnormWarning)
        expected, result = (
            one.octnorm.normalize(drift="scale", zprofile_sigma=1.0) for one in (volume, on_device(volume))
        )
    np.testing.assert_array_equal(result.data.to_device("cpu"), expected.to_numpy())


@pytest.mark.parametrize("planes", [False, True])
def test_voxels_without_signal_are_marked_where_the_volume_is(planes):
    volume = cut_brain()
    noise = np.zeros(volume.shape if planes else volume.shape[1:], bool)
    noise[..., :3, :3] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xoctnorm.OctnormWarning)  # the floor is not that of the phantom
        result = on_device(volume).octnorm.normalize(noise_floor=strict(noise))
        expected = volume.octnorm.normalize(noise_floor=noise)
    assert result.noise_floor == pytest.approx(float(expected.noise_floor), rel=1e-12)
    np.testing.assert_allclose(result.data.to_device("cpu"), expected, rtol=0, atol=2e-6)


MASK = np.zeros((24, 30), bool)
MASK[:4] = True
FUNCTIONS = {
    "normalize_volume": lambda vol, there: normalization.normalize_volume(vol, there(MASK)),
    "get_agarose_mask": lambda vol, there: normalization.get_agarose_mask(vol),
    "compute_scale_factors": lambda vol, there: normalization.compute_scale_factors(vol, 4, 1.0, 80, 0.5, 2.0),
    "apply_histogram_matching": lambda vol, there: normalization.apply_histogram_matching(vol, 4, 512),
    "apply_zprofile_smoothing": lambda vol, there: normalization.apply_zprofile_smoothing(vol, there(vol > 0.2), 2.0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_the_reference(name):
    assert set(FUNCTIONS) == set(normalization.__all__)
    volume = brain()
    expected = FUNCTIONS[name](volume.to_numpy(), lambda mask: mask)
    held = strict(volume.to_numpy()), in_chunks(volume).data, on_device(volume)
    for one in held:
        mask = (
            (lambda mask: strict(mask) if isinstance(mask, np.ndarray) else mask)
            if one is held[0]
            else lambda mask: mask
        )
        with counted() as transfers:
            found = FUNCTIONS[name](one, mask)
        pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
        for ours, theirs in pairs:
            np.testing.assert_array_equal(backend.to_host(ours) if hasattr(ours, "device") else ours, theirs)
        first = found[0] if isinstance(found, tuple) else found
        assert isinstance(first, StrictArray) == (name != "compute_scale_factors")
        assert sum(transfers.to_host) <= 20 * 25 + (24 * 30 if name == "get_agarose_mask" else 4 * 512)


# --------------------------------------------------------------------------------------- volumes that go there and back


@pytest.fixture
def device(monkeypatch):
    """The strict array in the place of CuPy."""
    monkeypatch.setattr(gpu, "lacking", lambda: None)
    monkeypatch.setattr(gpu, "_library", lambda: strict_array.NAMESPACE)


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("call", ["normalize", "apply", "match_histograms", "smooth_zprofile", "correct_drift"])
def test_a_volume_of_the_host_goes_there_and_back(device, monkeypatch, call, chunked):
    monkeypatch.setattr(gpu, "BLOCK_BYTES", 5 * 24 * 30 * 4)
    volume = normalized() if call in ("match_histograms", "smooth_zprofile", "correct_drift") else brain()
    parameters = {"normalize": {"drift": "scale"}, "correct_drift": {"method": "scale"}}.get(call, {})
    arguments = [volume.octnorm.fit(drift="scale")] if call == "apply" else []
    expected = getattr(volume.octnorm, call)(*arguments, **parameters)
    with counted() as transfers:
        one = volume.chunk(z=3) if chunked else volume
        result = getattr(one.octnorm, call)(*arguments, **parameters, use_gpu=True)
        assert (result.chunks is not None) == chunked
        values = result.to_numpy()
    np.testing.assert_array_equal(values, expected)
    assert max(transfers.to_device) <= 5 * 24 * 30  # a block at a time
    assert sum(transfers.to_device) >= volume.size
    assert transfers.to_host.count(24 * 30 * (3 if chunked else 5)) >= 4  # the result, block by block
    step = steps_of(result.attrs)[-1]
    step = step["apply"] if call == "apply" else step
    assert step["device"] == "strict (strict_array)"
    assert step["parameters"]["use_gpu"] is True
    if call == "apply" and not chunked:
        ours, theirs = (steps_of(one.attrs)[-1]["applied_to"]["digest"] for one in (result, expected))
        assert ours == theirs


def test_histogram_matching_of_the_reference_goes_there_plane_by_plane(device):
    volume = brain().to_numpy()
    with counted() as transfers:
        matched = normalization.apply_histogram_matching(volume, 4, 512, use_gpu=True)
    np.testing.assert_array_equal(matched, normalization.apply_histogram_matching(volume, 4, 512))
    assert transfers.to_host.count(24 * 30) == 20


def test_without_a_device_the_cpu_computes_and_the_record_says_so(monkeypatch):
    monkeypatch.setattr(gpu, "lacking", lambda: "there is none")
    volume = brain()
    result = volume.octnorm.normalize(drift="scale", use_gpu=True)
    xr.testing.assert_equal(result, volume.octnorm.normalize(drift="scale"))
    (step,) = steps_of(result.attrs)
    assert (step["device"], step["without_gpu"]) == ("cpu", "there is none")
    fitted = volume.octnorm.fit(drift="scale", use_gpu=True)
    assert steps_of(volume.octnorm.apply(fitted, use_gpu=True).attrs)[-1]["apply"]["without_gpu"] == "there is none"
    assert "without_gpu" not in steps_of(volume.octnorm.normalize(drift="scale").attrs)[0]


def test_a_device_that_is_required(monkeypatch):
    monkeypatch.setattr(gpu, "lacking", lambda: "there is none")
    volume = brain()
    for call in (volume.octnorm.normalize, volume.octnorm.fit, volume.octnorm.correct_drift, volume.octnorm.plan):
        with pytest.raises(InputError, match="use_gpu='require': there is none"):
            call(use_gpu="require")
    with pytest.raises(InputError, match="use_gpu='yes': needs False, True"):
        volume.octnorm.normalize(use_gpu="yes", drift="scale")


@pytest.mark.parametrize("holding", HOLDINGS.values(), ids=HOLDINGS)
def test_pictures_take_what_they_show_to_the_host(holding):
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot as plt

    result = holding(brain()).octnorm.normalize(drift="scale")
    allowed = {"mask": 24 * 30 + 60, "thresholds": 0, "drift": 0, "zprofile": 2 * 20, "histograms": 16 * 24 * 30}
    allowed["overview"] = 2 * 24 * 30 + 20 * (24 + 30) + 60
    for name, most in allowed.items():
        with counted() as transfers:
            getattr(result.octnorm.plot, name)()
        assert sum(transfers.to_host) <= most, name
    plt.close("all")


@pytest.mark.parametrize("holding", HOLDINGS.values(), ids=HOLDINGS)
@pytest.mark.parametrize("writer", ["to_netcdf", "to_zarr", "to_ome_zarr"])
def test_writers_take_values_to_the_host(tmp_path, writer, holding):
    volume = brain()
    path = tmp_path / "brain.nc"
    getattr(holding(volume).octnorm.normalize(drift="scale").octnorm, writer)(path)
    with xoctnorm.open_volume(path) as back:
        np.testing.assert_array_equal(back.to_numpy(), volume.octnorm.normalize(drift="scale").to_numpy())


# ------------------------------------------------------------------------------------------------- the array itself


def test_the_strict_array_is_strict():
    one = strict(np.arange(6.0).reshape(2, 3))
    refused = [
        lambda: np.asarray(one), lambda: float(one[0, 0]), lambda: bool((one > 0).any()), lambda: one + np.ones((2, 3)),
        lambda: np.ones((2, 3)) * one, lambda: one[0, 0].item(),
        lambda: np.nanpercentile(one, 5),
        lambda: np.add(one, 1, where=one > 0), lambda: strict_array.NAMESPACE.interp(one, np.ones(2), np.ones(2)),
        lambda: one.__setitem__(0, np.zeros(3)), lambda: [0.0, 1.0][one[0, 0].astype(int)],
    ]  # fmt: skip
    for call in refused:
        with pytest.raises(TypeError):
            call()
    with pytest.raises(AttributeError, match="not listed"):
        strict_array.NAMESPACE.nanpercentile  # noqa: B018
    with counted() as transfers:
        np.testing.assert_array_equal(backend.to_host(one + 1), np.arange(6.0).reshape(2, 3) + 1)
    assert transfers.to_host == [6]
