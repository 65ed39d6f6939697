"""Compiled loops over images, and over sorted levels, against NumPy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from skimage.morphology import reconstruction

from xoctnorm.kernels.classes import mode
from xoctnorm.kernels.compiled_gaussian import gaussian
from xoctnorm.kernels.compiled_regions import flood, near, weigh_neighbours
from xoctnorm.kernels.intensity import spread_slope
from xoctnorm.kernels.levels import connected
from xoctnorm.kernels.morphology import dilated, eroded
from xoctnorm.kernels.order_statistics import median

LEVELS = st.one_of(st.floats(-3, 3, width=32), st.sampled_from([0.0, -0.0, 0.5, 1.0]))  # many that are the same


def speckle(shape=(57, 83), seed=0):
    """A dark image with a bright disc and noise."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    return (np.hypot(y, x) < 0.7) + 0.3 * rng.standard_normal(shape).astype(np.float32)


def plain_mode(values):
    centre = float(np.median(values))
    for _ in range(20):
        near = np.abs(values - np.float32(centre))
        width = 1.5 * float(np.quantile(near.astype(np.float64), 0.4)) / 0.524 + 1e-9
        last, centre = centre, float(values[near <= np.float32(width)].mean(dtype=np.float64))
        if centre == last:
            break
    return centre


@pytest.mark.parametrize("shape", [(57, 83), (4, 90), (70, 3), (1, 1)])
@pytest.mark.parametrize("sigma", [0, 0.1, 0.6, 2.0, 20 / 3, 15.0])
def test_gaussian_has_the_bits_of_scipy(shape, sigma):
    image = speckle((100, 100))[: shape[0], : shape[1]]
    image.flags.writeable = False
    found = gaussian(image, sigma)
    np.testing.assert_array_equal(found, scipy.ndimage.gaussian_filter(image, sigma))
    assert not np.shares_memory(found, image)


@settings(deadline=None, max_examples=200)
@given(arrays(np.float32, st.integers(1, 60), elements=LEVELS))
def test_main_peak_of_anything(values):
    # A sum in another order may bring the centre to the other side of a rounding, and so a value into the peak.
    whole = (values * 64).round() / np.float32(64)
    assert mode(whole) == pytest.approx(plain_mode(whole), abs=1e-12)


@pytest.mark.parametrize("n", [1, 2, 5, 4001, 60000])
def test_main_peak_of_noise(n):
    rng = np.random.default_rng(n)
    values = np.append(rng.normal(1, 0.2, n), rng.normal(3, 0.5, n // 3)).astype(np.float32)
    assert mode(values) == pytest.approx(plain_mode(values), rel=1e-12)
    assert n < 4000 or abs(mode(values) - 1) < 0.02


@settings(deadline=None)
@given(arrays(st.sampled_from([np.float32, np.float64]), st.integers(1, 40), elements=LEVELS))
def test_median_of_anything(values):
    assert median(values) == np.median(values)


def test_median_of_nothing():
    assert np.isnan(median(np.empty(0, np.float32)))
    values = speckle()
    assert median(values) == np.median(values)


MASKS = arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


@settings(deadline=None)
@given(st.data())
def test_flood_of_anything(data):
    shape = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    surface = data.draw(arrays(np.float32, shape, elements=LEVELS))
    start = data.draw(arrays(bool, shape))
    start.flat[0] = True
    seed = np.where(start, surface, surface.max())
    np.testing.assert_array_equal(flood(surface, start), reconstruction(seed, surface, method="erosion"))


@pytest.mark.parametrize("sigma", [0, 2])
def test_flood_of_an_image(sigma):
    surface = scipy.ndimage.gaussian_filter(speckle(), sigma)
    start = np.zeros(surface.shape, bool)
    start[0], start[20, 30] = True, True
    seed = np.where(start, surface, surface.max())
    np.testing.assert_array_equal(flood(surface, start), reconstruction(seed, surface, method="erosion"))


@pytest.mark.parametrize("shape", [(57, 83), (1, 7), (2, 1)])
def test_neighbours_are_those_of_a_convolution(shape):
    belief, evidence = speckle(shape), speckle(shape, seed=1)
    weighed = np.empty_like(belief)
    weigh_neighbours(belief, evidence, weighed)
    kernel = np.array([[0.7, 1, 0.7], [1, 0, 1], [0.7, 1, 0.7]], np.float32)
    around = scipy.ndimage.convolve(belief, kernel, mode="nearest")
    np.testing.assert_array_equal(weighed, (evidence + around) / 2)


@settings(deadline=None)
@given(MASKS, st.sampled_from([1.0, 2.0, 2.5, 3.0, 6.0]))
def test_near_by_distance(mask, radius):
    mask[0, 0] = True
    np.testing.assert_array_equal(near(mask, radius), scipy.ndimage.distance_transform_edt(~mask) <= radius)
    assert not near(np.zeros_like(mask), radius).any()


@settings(deadline=None)
@given(st.data())
def test_parts_that_hold_a_start(data):
    mask = data.draw(MASKS)
    start = data.draw(arrays(bool, mask.shape))
    parts, _ = scipy.ndimage.label(mask)
    np.testing.assert_array_equal(connected(mask, start), np.isin(parts, np.unique(parts[start & mask])) & mask)


@settings(deadline=None)
@given(MASKS, st.integers(1, 3), st.booleans(), st.booleans())
def test_erosion_and_dilation_are_those_of_scipy(mask, times, corners, border):
    around = np.ones((3, 3), bool) if corners else None
    expected = scipy.ndimage.binary_erosion(mask, around, iterations=times, border_value=border)
    np.testing.assert_array_equal(eroded(mask, times, corners=corners, border=border), expected)
    expected = scipy.ndimage.binary_dilation(mask, around, iterations=times)
    np.testing.assert_array_equal(dilated(mask, times, corners=corners), expected)


def test_spread_on_mean_tile_by_tile():
    rng = np.random.default_rng(4)
    planes = []
    for level in (1.0, 1.5, 2.0):
        plane = (level * rng.gamma(6, 1 / 6, (65, 83)) * np.linspace(1, 2, 83)).astype(np.float32)
        plane[:4], plane[20, 30:50] = 0, np.nan
        planes.append((plane, rng.random(plane.shape) < np.linspace(0, 1.2, 83)))
    x, y = [], []
    for plane, agarose in planes:
        for rows in np.array_split(np.arange(65), 8):
            for columns in np.array_split(np.arange(83), 8):
                values = plane[np.ix_(rows, columns)][agarose[np.ix_(rows, columns)]].astype(np.float64)
                values = values[np.isfinite(values) & (values != 0)]
                if values.size >= 50:
                    x.append(np.log(values.mean()))
                    y.append(np.log(np.clip(values, *np.quantile(values, [0.05, 0.95])).std()))
    (slope, _), covariance = np.polyfit(x, y, 1, cov=True)
    assert spread_slope(iter(planes)) == pytest.approx((slope, covariance[0, 0] ** 0.5), rel=1e-9)
    assert 0.8 < slope < 1.2
