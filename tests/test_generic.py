"""Compiled kernels against the generic ones, which are what they have to compute, on NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xoctnorm.kernels import (
    compiled,
    compiled_histograms,
    compiled_images,
    compiled_quality,
    compiled_quantiles,
    compiled_regions,
    compiled_steps,
    compiled_survey,
    generic,
    generic_quality,
    generic_regions,
)
from xoctnorm.kernels.histograms import Mapping, bin_centers, bin_edges
from xoctnorm.kernels.steps import CLIP, CUT, DIVIDE, INTERPOLATE, MULTIPLY, SUBTRACT

NUMBERS = st.one_of(
    st.floats(-2, 2, width=32),
    st.sampled_from([0.0, -0.0, 0.5, 1.0, float("nan")]),  # many that are the same
)
VALUES = arrays(np.float32, st.integers(1, 700), elements=NUMBERS)  # of several blocks
anything = settings(deadline=None, max_examples=25)


@anything
@given(
    VALUES,
    st.floats(-2, 2, width=32),
    st.floats(-2, 2, width=32),
    st.sampled_from([-np.inf, 1e-45]),
    st.sampled_from([np.nan, 0.0, 0.5]),
)
def test_brackets(values, low, high, least, without):
    where = values > np.roll(values, 1)
    for name, given_ in (("bracket", (values, least, without)), ("bracket_where", (values, where))):
        found = []
        for kernels in (compiled, generic):
            inside = np.empty(values.size + compiled.BLOCK, np.float32)
            numbers = getattr(kernels, name)(*given_, max(low, least), high, inside)  # as all callers do
            found.append((*numbers, inside[: numbers[1]].tolist()))
        assert found[0] == found[1]
    low = max(low, least)
    counted = values[(values >= np.float32(least)) & (values != without)]
    inside = np.empty(values.size + compiled.BLOCK, np.float32)
    below, n_inside, present = compiled.bracket(values, least, without, low, high, inside)
    between = counted[(counted >= np.float32(low)) & (counted <= np.float32(high))]
    assert (below, n_inside, present) == (np.sum(counted < np.float32(low)), between.size, counted.size)
    np.testing.assert_array_equal(inside[:n_inside], between)
    found = []
    for kernels in (compiled, generic):
        inside = np.empty((2, values.size + compiled.BLOCK), np.float32)
        numbers = kernels.two_brackets(values, where, (low, high), (-np.inf, low), *inside)
        found.append((numbers, [one[:n].tolist() for one, (_, n, _) in zip(inside, numbers, strict=True)]))
    assert found[0] == found[1]
    assert generic.bracket(values, -np.inf, np.nan, -np.inf, np.inf, np.empty(0, np.float32))[1] in (-1, 0)


@anything
@given(VALUES, st.integers(2, 600), st.sampled_from([0.0, 0.1, 0.5, -1.0]))
def test_histograms(values, n_bins, threshold):
    edges = bin_edges(n_bins, threshold)
    values = np.concatenate([values, edges, np.nextafter(edges, np.float32(2)), np.nextafter(edges, np.float32(-2))])
    counts, expected = np.ones((2, n_bins), np.int64)
    compiled_histograms.bin_counts(values, edges, counts)
    generic.bin_counts(values, edges, expected)
    np.testing.assert_array_equal(counts, expected)
    np.testing.assert_array_equal(expected - 1, np.histogram(values[~np.isnan(values)], edges)[0])


@anything
@given(VALUES, st.integers(2, 300), st.floats(0, 1, width=32), st.sampled_from([0.5, 1.0]), st.integers(0, 2**32 - 1))
def test_steps(values, n_bins, number, strength, seed):
    centers = bin_centers(n_bins, 0.0)
    lines = Mapping.of(np.sort(np.random.default_rng(seed).random((1, n_bins))), centers, 0.0).lines[0]
    kinds = np.array([CUT, DIVIDE, SUBTRACT, INTERPOLATE, MULTIPLY, CLIP])
    parameters = np.array([(0.1, 1.5), (0.7, 0), (number / 8, 0), (number / 4, strength), (1 + number, 0), (0, 0)])
    results = np.empty((2, values.size), np.float32)
    for kernels, out in zip((compiled_steps, generic), results, strict=True):
        kernels.take(values, kinds, parameters, centers, lines, out)
    np.testing.assert_array_equal(*results)
    unknown = np.array([(0.0, np.nan)])  # without a cap
    generic.take(values, kinds[:1], unknown, centers, lines, results[0])
    assert np.isnan(results[0]).all()


@anything
@given(
    VALUES,
    st.lists(NUMBERS.filter(lambda value: value == value), min_size=2, max_size=130),
    st.sampled_from([1.0, 2.0**120, 2.0**-125]),
    st.sampled_from([0.0, -0.25, 3.0]),
    st.integers(0, 2**32 - 1),
)
def test_values_are_moved_as_numpy_interpolates(values, knots, scale, tilt, seed):
    """From knots that may be the same, too; infinity is as odd as NumPy makes it."""
    knots = np.sort(np.array(knots)) * scale
    shift = np.random.default_rng(seed).normal(size=knots.size) * scale
    beside = np.nextafter(knots.astype(np.float32), np.float32(-np.inf))
    values = np.concatenate(
        [values * np.float32(scale), knots.astype(np.float32), beside, np.float32([np.inf, -np.inf])]
    )
    with np.errstate(invalid="ignore"):
        expected = generic.moved(values, knots, shift, tilt, -tilt)
    for given_ in (values, values.astype(">f4")):
        np.testing.assert_array_equal(compiled_quantiles.moved(given_, knots, shift, tilt, -tilt), expected)


@anything
@given(VALUES, st.floats(0, 2, width=32))
def test_sums_and_ranges(values, factor):
    where = values > 0.1
    for without in (np.nan, 0.5):
        total, count = compiled.sum_where(values, where, without)
        expected, expected_count = generic.sum_where(values, where, without)
        assert (total, count) == (pytest.approx(expected, rel=1e-13, abs=1e-13), expected_count)
    found = []
    for kernels in (compiled, generic):
        out = np.empty_like(values)
        kernels.multiply_where(values, where, factor, out)
        capped, capped_counts = np.zeros(values.size, np.float32), np.zeros(values.size, np.uint16)
        kernels.add_capped(values, factor, capped, capped_counts)
        found.append((out, capped, capped_counts))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_means_from_sums():
    count = np.random.default_rng(2).integers(0, 4, 500).astype(np.int32)
    total = np.where(count > 0, np.random.default_rng(3).random(500), 0.0)
    for kernels in (compiled_survey, generic):
        mean = np.empty(500, np.float32)
        kernels.divide(total, count, mean)
        expected = np.divide(total, count, out=np.full(500, np.nan), where=count > 0).astype(np.float32)
        np.testing.assert_array_equal(mean, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
def test_words_of_a_digest(dtype):
    bits = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, 1000, dtype, endpoint=True)
    for start in (0, 12_345_678_901):
        assert compiled.sum_of_words(bits, start) == generic.sum_of_words(bits, start)
        assert compiled.sum_of_rows(bits, 40, start, 77) == generic.sum_of_rows(bits, 40, start, 77)


@pytest.mark.parametrize("factor", [2, 3, 5])
@pytest.mark.parametrize("shape", [(9, 12), (10, 13), (4, 4), (1, 7), (31, 300)])
def test_means_of_blocks(shape, factor):
    plane = np.random.default_rng(1).random(shape).astype(np.float32)
    plane[0, :3] = 0
    plane[-1, 1:3] = np.nan
    means = np.empty((2, -(-shape[0] // factor), -(-shape[1] // factor)), np.float32)
    for kernels, mean in zip((compiled_regions, generic_regions), means, strict=True):
        kernels.block_means(plane.reshape(-1), shape[1], factor, mean)
    np.testing.assert_allclose(*means, rtol=1e-7)


@pytest.mark.parametrize("shape", [(9, 12), (1, 7), (1, 1)])
def test_neighbours_have_the_same_bits(shape):
    rng = np.random.default_rng(2)
    belief, evidence = np.tanh(rng.normal(size=(2, *shape))).astype(np.float32)
    found = np.empty((2, *shape), np.float32)
    for kernels, weighed in zip((compiled_regions, generic_regions), found, strict=True):
        kernels.weigh_neighbours(belief, evidence, weighed)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("shape", [(9, 12), (10, 13), (1, 7)])
def test_parts_and_blocks_of_masks(shape):
    rng = np.random.default_rng(3)
    parts, table = rng.integers(0, 9, shape).astype(np.int32), rng.random(9) < 0.5
    picked = np.empty((2, parts.size), bool)
    counts = np.zeros((2, -(-shape[0] // 3), -(-shape[1] // 3)), np.int64)
    for kernels, out, count in zip((compiled_images, generic_regions), picked, counts, strict=True):
        kernels.pick(table, parts.reshape(-1), out)
        kernels.count_blocks(table[parts], 3, count)
    np.testing.assert_array_equal(picked, [table[parts.reshape(-1)]] * 2)
    np.testing.assert_array_equal(counts[0], counts[1])
    assert counts[0].sum() == table[parts].sum()


@anything
@given(
    st.integers(1, 40),
    st.one_of(st.integers(1, 40), st.integers(120, 300)),
    st.integers(1, 5),
    st.sampled_from([4, 8]),
    st.integers(0, 2**32 - 1),
)
def test_figures_of_a_plane(n_y, n_x, factor, size, seed):
    rng = np.random.default_rng(seed)
    plane = rng.gamma(2, 1, (n_y, n_x)).astype(np.float32)
    for value in (0, -1.5, np.nan, np.inf, plane.max() * 2):
        plane[rng.random(plane.shape) < rng.choice([0, 0, 0.02, 0.5])] = value
    coarse = tuple(-(-n // factor) for n in plane.shape)
    labels = rng.integers(0, 6, coarse).astype(np.uint8) if seed % 2 else np.full(coarse, seed % 6, np.uint8)
    flat, found = plane.reshape(-1), []
    for kernels in (compiled_quality, generic_quality):
        mean, counts = np.empty(coarse, np.float32), np.zeros(5, np.int64)
        moments, histograms = np.ones((3, 3)), np.ones((3, compiled_quality.BINS), np.int64)
        blocks = np.empty((n_y * n_x, 2))
        kernels.coarse_means(flat, n_x, factor, mean)
        bits = flat.view(np.uint32)
        largest = kernels.look_at_plane(flat, n_x, labels, factor, bits, counts, moments, histograms)
        n = kernels.contrasts_of_blocks(flat, n_x, labels, factor, size, 0.1, blocks)
        found.append((mean, largest, counts, histograms, blocks[:n, 0], moments, blocks[:n, 1]))
    for one, other in zip(*(of[:5] for of in found), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(*(of[5:] for of in found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)
