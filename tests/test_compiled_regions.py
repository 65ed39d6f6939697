"""Compiled loops over images, and over sorted levels, against NumPy and scikit-image."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xoctnorm.kernels.classes import mode
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
