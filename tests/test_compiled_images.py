"""Compiled loops over single pixels of images, and over their levels, against NumPy and SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from xoctnorm.kernels.coarse import block_sums, coarse_mask
from xoctnorm.kernels.compiled import frozen
from xoctnorm.kernels.compiled_images import count_blocks, interpolate, to_steps
from xoctnorm.kernels.levels import picked
from xoctnorm.kernels.modes import _density
from xoctnorm.kernels.order_statistics import percentile_in_double


@pytest.mark.parametrize("by_log", [False, True])
def test_steps_are_rounded_and_cut_off_at_both_ends(by_log):
    rng = np.random.default_rng(0)
    values = np.append(rng.normal(1, 1, 5000), [0, np.nan, np.inf, -np.inf, -1, 1e-30, 1e30]).astype(np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = np.log(values) if by_log else values
    first, per_step, most = np.float32(-0.5), np.float32(100), np.float32(254)
    code = np.empty(values.size, np.uint8)
    to_steps(frozen(values), frozen(scaled), first, per_step, most, code)
    has = np.isfinite(values) & (values != 0)
    steps = np.rint(np.clip(np.nan_to_num((scaled - first) * per_step), 0, most))
    np.testing.assert_array_equal(code, np.where(has, steps + 1, 0))


def test_values_in_the_middle_of_two_steps_go_to_the_even_one():
    halves = np.arange(1, 8, dtype=np.float32) / 2
    code = np.empty(7, np.uint8)
    to_steps(frozen(halves), frozen(halves), np.float32(0), np.float32(1), np.float32(254), code)
    assert code.tolist() == [1, 2, 3, 3, 3, 4, 5]


def test_entries_of_a_table_are_picked():
    rng = np.random.default_rng(1)
    table, parts = rng.random(20) < 0.5, rng.integers(0, 20, (31, 17)).astype(np.int32)
    np.testing.assert_array_equal(picked(table, parts), table[parts])
    np.testing.assert_array_equal(picked(table, parts[:, ::2]), table[parts[:, ::2]])


@pytest.mark.parametrize("n", [1, 2, 7, 300, 60000])
@pytest.mark.parametrize("q", [0.1, 25, 99.9])
def test_percentiles_are_those_of_a_list_of_them(n, q):
    rng = np.random.default_rng(n)
    for values in (rng.gamma(6, size=n), rng.normal(size=n), rng.integers(0, 4, n), np.ones(n)):
        single = values.astype(np.float32)
        assert percentile_in_double(single, q) == np.percentile(single, [q])[0]


@pytest.mark.parametrize("values", [[3.0] * 500, [1.0, 1.000003] * 50, [-2.0, 5.0, 5.0]])
def test_modes_count_few_values_as_numpy_does(values):
    single = np.array(values, np.float32)
    low, high = float(single.min()), float(single.max())
    _, counts, _ = _density(single, 0.05)
    expected, _ = np.histogram(single, counts.size, range=(low, high) if high > low else (low, low + 1))
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("bandwidth", [0.01, 0.3])
def test_modes_count_as_numpy_does(bandwidth):
    single = np.random.default_rng(5).normal(-3, 1, 50000).astype(np.float32)
    _, counts, _ = _density(single, bandwidth)
    expected, _ = np.histogram(single, counts.size, range=(float(single.min()), float(single.max())))
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("shape", [(40, 51), (7, 3), (1, 1)])
@pytest.mark.parametrize("factor", [2, 3, 8])
def test_marked_pixels_of_blocks(shape, factor):
    mask = np.random.default_rng(2).random(shape) < 0.5
    counts = np.zeros([-(-n // factor) for n in shape], np.int64)
    count_blocks(mask, factor, counts)
    np.testing.assert_array_equal(counts, block_sums(mask, factor))
    size = block_sums(np.ones(shape, bool), factor)
    np.testing.assert_array_equal(coarse_mask(mask, factor), counts > size / 2)


@pytest.mark.parametrize("shape", [(342, 57), (4, 3), (11, 10), (1, 1), (1, 40)])
def test_interpolation_has_the_bits_of_scipy(shape):
    grid = np.random.default_rng(3).normal(size=[-(-n // 5) for n in shape])
    y, x = ((np.arange(n) + 0.5) / 5 - 0.5 for n in shape)
    found = np.empty(shape, np.float32)
    interpolate(grid, y, x, found)
    both = np.meshgrid(y, x, indexing="ij")
    expected = scipy.ndimage.map_coordinates(grid, both, order=1, mode="nearest").astype(np.float32)
    np.testing.assert_array_equal(found, expected)
