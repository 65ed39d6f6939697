"""Agarose of single planes on a device that acts like CuPy: where it is found, and where masks that are given stay."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from conftest import cut_brain
from scipy.ndimage import gaussian_filter
from strict_array import StrictArray, counted, strict
from test_device import HOLDINGS, MODEL, SUMS
from test_device_figures import PIXELS, PLANES, same_figures

import xoctnorm
from xoctnorm.kernels import backend
from xoctnorm.kernels.masks import otsu_agarose_mask

SECTIONS = 6
METHODS = {
    "otsu": {"method": "otsu"},
    "border": {"method": "border"},
    "auto": {"method": "auto"},
    "without small parts": {"method": "otsu", "min_area": 200.0},
}


def damaged() -> xr.DataArray:
    """A volume with gaps, planes without contrast, and one that is empty."""
    volume, rng = cut_brain(), np.random.default_rng(0)
    volume[4] = float(volume[4].mean()) * (1 + 0.1 * rng.standard_normal(volume.shape[1:]))
    volume[9] = 0
    volume[14, 20:30, :40] = np.nan
    return volume.where(rng.random(volume.shape) > 0.01)


@pytest.mark.parametrize("made", [cut_brain, damaged])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("holding", HOLDINGS.values(), ids=HOLDINGS)
def test_masks_of_planes_are_found_there(holding, method, made):
    volume = made()
    if method == "border":
        volume = volume + np.linspace(0, 0.1, volume.sizes["x"], dtype=np.float32)  # agarose that rises
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", xoctnorm.OctnormWarning)
        expected = volume.octnorm.agarose_mask(per_plane=True, **METHODS[method])
        with counted() as transfers:
            found = holding(volume).octnorm.agarose_mask(per_plane=True, **METHODS[method])
    assert isinstance(found.data, StrictArray)
    np.testing.assert_array_equal(found.data.to_device("cpu"), expected)
    assert 0.1 < float(expected.mean()) < 0.9
    for name, coord in expected.coords.items():
        xr.testing.assert_equal(found.coords[name].variable, coord.variable)
    # Bins of Otsu's threshold, and some numbers, per plane; mean projections of sections and of the volume.
    assert sum(transfers.to_host) <= PLANES * (256 + 60) + (SECTIONS + 1) * PIXELS
    assert max(transfers.to_host) <= PIXELS
    assert sum(transfers.to_device) <= (7 * SECTIONS + 2) * PIXELS + PLANES * 400


def test_masks_of_planes_of_several_channels():
    volume = xr.concat([cut_brain(), 2 * cut_brain()], "channel")
    found, expected = (one.octnorm.agarose_mask(per_plane=True) for one in (HOLDINGS["array"](volume), volume))
    assert isinstance(found.data, StrictArray)
    np.testing.assert_array_equal(found.data.to_device("cpu"), expected)


CALLS = {
    "normalize()": (lambda da, mask: da.octnorm.normalize(agarose_mask=mask), SUMS + 60, MODEL + 24 + SECTIONS),
    "normalize(drift=None)": (lambda da, mask: da.octnorm.normalize(drift=None, agarose_mask=mask), 30, 1),
    "normalize(zprofile_sigma=1)": (
        lambda da, mask: da.octnorm.normalize(drift="scale", zprofile_sigma=1.0, agarose_mask=mask),
        40,
        1,
    ),
    "tissue_mask()": (lambda da, mask: da.octnorm.tissue_mask(agarose_mask=mask), 2, 0),
    "seeds": (lambda da, mask: da.octnorm.agarose_mask(per_plane=True, seeds=mask), 320, 2 * SECTIONS + 1),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("holding", HOLDINGS.values(), ids=HOLDINGS)
def test_masks_that_are_given_for_planes_stay_there(holding, name):
    call, per_plane, planes = CALLS[name]
    volume = cut_brain()
    mask = volume.octnorm.agarose_mask(method="border", per_plane=True)
    expected = call(volume, mask)
    with counted() as transfers:
        result = call(holding(volume), holding(mask))
    values = result.compute().data
    np.testing.assert_allclose(backend.to_host(values).astype(float), expected, rtol=0, atol=2e-6)
    assert sum(transfers.to_host) <= PLANES * per_plane + planes * PIXELS
    if "agarose_mask" in result.coords:
        assert isinstance(result.agarose_mask.compute().data, StrictArray)
    # Either may be on the host.
    for volume_there, mask_there in ((True, False), (False, True)):
        one = holding(volume) if volume_there else volume
        other = call(one, holding(mask) if mask_there else mask).compute().data
        assert isinstance(other, StrictArray) == volume_there
        np.testing.assert_allclose(backend.to_host(other).astype(float), expected, rtol=0, atol=2e-6)


def test_masks_of_sections_may_be_given_there():
    volume, there = cut_brain(), HOLDINGS["array"]
    mask = volume.octnorm.agarose_mask(method="border", per_section=True)
    for call in (lambda da, mask: da.octnorm.normalize(drift=None, agarose_mask=mask), CALLS["tissue_mask()"][0]):
        expected = call(volume, mask)
        for one in (volume, there(volume)):
            values = backend.to_host(call(one, there(mask)).data).astype(float)
            np.testing.assert_allclose(values, expected, rtol=0, atol=2e-6)


def test_a_correction_with_masks_of_planes_there_is_applied_to_volumes_of_the_host():
    volume, there = cut_brain(), HOLDINGS["array"]
    mask = volume.octnorm.agarose_mask(method="border", per_plane=True)
    correction = there(volume).octnorm.fit(drift="scale", agarose_mask=there(mask))
    expected = volume.octnorm.normalize(drift="scale", agarose_mask=mask)
    for one in (volume, volume.chunk(z=7)):
        result = one.octnorm.apply(correction)
        np.testing.assert_array_equal(result.agarose_mask, expected.agarose_mask)
        np.testing.assert_allclose(result, expected, rtol=0, atol=2e-6)
        np.testing.assert_array_equal(result.octnorm.tissue_mask(), expected.octnorm.tissue_mask())


def test_results_with_masks_of_planes(tmp_path):
    pytest.importorskip("matplotlib").use("agg")
    from matplotlib import pyplot as plt

    volume = cut_brain()
    mask = volume.octnorm.agarose_mask(method="border", per_plane=True)
    expected = volume.octnorm.normalize(agarose_mask=mask)
    result = HOLDINGS["array"](volume).octnorm.normalize(agarose_mask=HOLDINGS["array"](mask))
    same_figures(result.octnorm.qc(), expected.octnorm.qc())
    with counted() as transfers:
        for name in ("mask", "overview", "zprofile"):
            getattr(result.octnorm.plot, name)()
    plt.close("all")
    assert sum(transfers.to_host) <= 6 * PIXELS + PLANES * (64 + 80 + 2)
    result.octnorm.to_netcdf(tmp_path / "brain.nc")
    with xoctnorm.open_volume(tmp_path / "brain.nc") as back:
        xr.testing.assert_equal(back.compute().drop_attrs(), expected.drop_attrs())


@pytest.mark.parametrize("sigma", [0.1, 1.0, 2.3, 40.0])
def test_smoothing_has_the_bits_of_scipy(sigma):
    image = np.random.default_rng(0).gamma(2, 1, (21, 34)).astype(np.float32)
    smooth = backend.kernels_for(strict(image), "compiled_gaussian").gaussian(strict(image), sigma)
    np.testing.assert_array_equal(smooth.to_device("cpu"), gaussian_filter(image, sigma))


@pytest.mark.parametrize("kind", ["plain", "tiny", "huge", "one value", "negative", "nothing", "missing"])
def test_thresholds_are_those_of_the_host(kind):
    image = np.random.default_rng(1).gamma(2, 1, (40, 50)).astype(np.float32)
    image[:, 20:] *= 5
    if kind in ("tiny", "huge"):
        image *= np.float32({"tiny": 1e-35, "huge": 1e30}[kind])
    elif kind in ("one value", "nothing"):
        image[:] = 7 if kind == "one value" else -1
    elif kind == "negative":
        image -= 3
    elif kind == "missing":
        image[5:12, 8:30] = np.nan
    mask, threshold = otsu_agarose_mask(image, 1.0)
    with counted() as transfers:
        found, of_device = otsu_agarose_mask(strict(image), 1.0)
    np.testing.assert_array_equal(found.to_device("cpu"), mask)
    np.testing.assert_array_equal(of_device, threshold)
    assert sum(transfers.to_host) < 600
