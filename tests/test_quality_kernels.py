"""Kernels behind figures of merit against closed forms and NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from xoctnorm.kernels.class_sums import SLOTS, Slot, TileSums
from xoctnorm.kernels.classes import BRIGHT, DARK
from xoctnorm.kernels.compiled import frozen
from xoctnorm.kernels.compiled_quality import BINS, coarse_means, contrasts_of_blocks, look_at_plane
from xoctnorm.kernels.quality import (
    Moments,
    beyond_noise,
    cjv,
    cnr,
    equal_depth_steps,
    gcnr,
    left_out,
    levels_and_profile,
    separability,
    weighted_percentiles,
)
from xoctnorm.kernels.tile_series import TILES


def test_levels_and_profile_of_an_incomplete_table():
    rng = np.random.default_rng(0)
    level, profile = rng.normal(size=5), rng.normal(size=4)
    section, depth = np.repeat(np.arange(5), 4), np.tile(np.arange(4), 5)
    log = level[section] + profile[depth]
    log[[0, 7]] = np.nan
    keep = np.arange(20) != 13
    found, shape = levels_and_profile(log[keep], section[keep], depth[keep])
    np.testing.assert_allclose(found - found.mean(), level - level.mean(), atol=1e-9)
    np.testing.assert_allclose(shape, profile - profile.mean(), atol=1e-9)
    np.testing.assert_allclose(found[1] + shape[2], level[1] + profile[2], atol=1e-9)


def test_levels_of_what_nothing_tells():
    found, shape = levels_and_profile(np.array([1.0, np.nan]), np.array([0, 1]), np.array([0, 1]))
    np.testing.assert_array_equal(found, [1.0, np.nan])
    np.testing.assert_array_equal(shape, [0.0, np.nan])


def made_sums(gain, floor=0.0, n_planes=4, decay=0.1):
    """Sums of planes of sections with gains, decay and a floor, of equal blocks."""
    section, depth = np.repeat(np.arange(len(gain)), n_planes), np.tile(np.arange(n_planes), len(gain))
    total, count = np.zeros((2, len(section), len(SLOTS), TILES**2))
    for slot, (kind, relative, around) in enumerate(SLOTS):
        if around or kind not in (DARK, BRIGHT):
            continue
        seen = np.ones(len(section), bool) if relative == 0 else (section > 0) & (depth < n_planes // 2)
        level = {DARK: 0.2, BRIGHT: 0.4}[kind] * gain[section] * np.exp(-decay * depth) + floor
        count[seen, slot] = 50
        total[seen, slot] = 50 * level[seen, None]
    return TileSums(total, count), section, depth


def test_steps_are_those_of_the_gains_whatever_the_decay():
    gain = np.array([1.0, 1.2, 0.9, 0.99])
    tiles, section, depth = made_sums(gain, floor=0.03)
    follows = np.array([True, True, False, False])
    steps = equal_depth_steps(tiles, np.full(3, 0.1), section, depth, follows, np.full(16, 0.03))
    np.testing.assert_allclose(steps.step, [np.nan, *np.log([1.2, 0.75]), np.nan], atol=1e-12)
    np.testing.assert_allclose(steps.error, [np.nan, 0, 0, np.nan], atol=1e-9)
    np.testing.assert_allclose(steps.raw, [np.nan, *(np.log([1.2, 0.75]) + 0.3), np.nan], atol=1e-12)
    np.testing.assert_allclose(steps.blocks[1], np.log(1.2), atol=1e-12)
    assert np.isnan(steps.blocks[[0, 3]]).all()
    np.testing.assert_allclose(steps.block_size[1], 100)  # two depths of 50 pixels
    np.testing.assert_allclose(steps.block_variance[1], 2 * 0.1 / 100)


def test_blocks_without_pixels_make_no_step():
    tiles, section, depth = made_sums(np.array([1.0, 1.5]))
    own, before = SLOTS.index(Slot(DARK)), SLOTS.index(Slot(DARK, -1))
    tiles.count[0, own, :5] = 3  # too few in one plane of the section before
    tiles.total[0, own, :5] *= 3 / 50
    tiles.count[4, before, 6] = 0
    steps = equal_depth_steps(tiles, np.full(3, 0.1), section, depth, np.array([True, False]), np.zeros(8))
    assert steps.step[1] == pytest.approx(np.log(1.5), abs=1e-12)
    np.testing.assert_array_equal(steps.block_size[1, :7], [50, 50, 50, 50, 50, 100, 50])


def test_the_error_is_that_of_a_mean_over_blocks():
    tiles, section, depth = made_sums(np.array([1.0, 1.0]))
    rng = np.random.default_rng(1)
    of_block = rng.normal(0, 0.05, TILES**2)
    for kind in (DARK, BRIGHT):
        tiles.total[4:, SLOTS.index(Slot(kind, -1))] *= np.exp(of_block)
    steps = equal_depth_steps(tiles, np.full(3, 0.1), section, depth, np.array([True, False]), np.zeros(8))
    blocks = np.tile(of_block, 2)
    assert steps.step[1] == pytest.approx(blocks.mean(), abs=1e-12)
    assert steps.error[1] == pytest.approx(blocks.std(ddof=1) / np.sqrt(blocks.size), rel=1e-9)


def test_left_out_sections():
    level = np.log([1.0, 1.1, 0.9, 1.0])
    step = np.append(np.nan, np.diff(level))
    value, error = left_out(step, np.array([np.nan, 0.03, 0.04, 0.05]))
    expected = [level[0] - level[1], level[1] - (level[0] + level[2]) / 2, level[2] - (level[1] + level[3]) / 2]
    np.testing.assert_allclose(value, [*expected, level[3] - level[2]], atol=1e-12)
    np.testing.assert_allclose(error, [0.03, 0.025, np.hypot(0.04, 0.05) / 2, 0.05], atol=1e-12)
    assert np.isnan(left_out(np.array([np.nan]), np.array([np.nan]))[0]).all()


def test_beyond_noise():
    values = np.array([np.nan, 0.3, -0.4])
    assert beyond_noise(values, np.zeros(3)) == pytest.approx(np.sqrt(0.125))
    assert beyond_noise(values, np.array([0, 0.1, 0.1])) == pytest.approx(np.sqrt(0.025))
    assert beyond_noise(values, np.ones(3)) == 0
    assert np.isnan(beyond_noise(values[:1], np.ones(1)))


def test_moments_of_parts_are_those_of_the_whole():
    rng = np.random.default_rng(2)
    parts = [1000 + rng.normal(size=n) for n in (1, 400, 30)]
    sums = np.array([[p.size, p.sum(), (p**2).sum()] for p in parts] + [[0, 0, 0]])
    whole = np.concatenate(parts)
    found = Moments.of(sums)
    assert found.count == whole.size
    assert found.mean == pytest.approx(whole.mean(), rel=1e-14)
    assert found.variance == pytest.approx(whole.var(), rel=1e-6)


def test_contrast_of_two_normal_classes():
    one, other = Moments(100, 3.0, 4.0), Moments(100, 8.0, 9.0)
    assert cnr(one, other) == pytest.approx(5 / np.sqrt(13))
    assert cjv(one, other) == pytest.approx((2 + 3) / 5)
    nothing = Moments(0, np.nan, np.nan)
    assert np.isnan([cnr(one, nothing), cjv(one, nothing), cjv(one, one)]).all()
    edges = np.linspace(-10, 12, 2001)
    histograms = [np.rint(1e9 * np.diff(norm.cdf(edges, mean))).astype(np.int64) for mean in (0, 2)]
    assert gcnr(*histograms) == pytest.approx(1 - 2 * norm.cdf(-1), abs=1e-4)
    assert gcnr(histograms[0], histograms[0] * 3) == pytest.approx(0, abs=1e-9)
    assert gcnr(np.array([5, 0]), np.array([0, 1])) == 1
    assert np.isnan(gcnr(np.array([5, 0]), np.array([0, 0])))


def test_separability_of_otsu():
    assert separability(np.array([1.0, 1, 3, 3, 3]), 2) == 1
    values = norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    assert separability(values, 0.0) == pytest.approx(2 / np.pi, abs=1e-4)  # of one normal distribution
    assert np.isnan([separability(values, 10.0), separability(np.ones(3), 1.0)]).all()


def test_weighted_percentiles():
    values = np.array([3.0, 1.0, 2.0])
    assert weighted_percentiles(values, np.array([1.0, 1.0, 1.0]), [50]).tolist() == [2.0]
    heavy = weighted_percentiles(values, np.array([1.0, 8.0, 1.0]), [0, 50, 100])
    assert heavy[0] == 1.0
    assert heavy[1] < 1.5
    assert heavy[2] == 3.0
    assert np.isnan(weighted_percentiles(np.zeros(0), np.zeros(0), [5, 95])).all()


@pytest.mark.parametrize("factor", [1, 3])
def test_coarse_means_are_those_of_numpy(factor):
    rng = np.random.default_rng(3)
    plane = rng.normal(size=(20, 31)).astype(np.float32)
    plane[2:5, 4:20] = np.nan
    plane[10, 10] = np.inf
    plane[:, -1] = 0
    shape = [-(-n // factor) for n in plane.shape]
    found = np.empty(shape, np.float32)
    coarse_means(frozen(plane), plane.shape[1], factor, found)
    for y, x in np.ndindex(*shape):
        block = plane[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        finite = block[np.isfinite(block)].astype(float)
        expected = finite.mean() if 2 * finite.size >= block.size else np.nan
        np.testing.assert_allclose(found[y, x], expected, rtol=1e-6)


@pytest.mark.parametrize("factor", [1, 2])
def test_what_is_counted_in_a_plane(factor):
    rng = np.random.default_rng(4)
    plane = rng.gamma(2, 1, (20, 25)).astype(np.float32)
    plane[rng.random(plane.shape) < 0.1] = 0
    plane[rng.random(plane.shape) < 0.05] = np.nan
    plane[rng.random(plane.shape) < 0.05] *= -1
    plane[5:9, 5:9] = 50
    labels = rng.integers(0, 6, [-(-n // factor) for n in plane.shape]).astype(np.uint8)
    fine = np.repeat(np.repeat(labels, factor, 0), factor, 1)[:20, :25]
    counts, moments, histograms = np.zeros(5, np.int64), np.zeros((3, 3)), np.zeros((3, BINS), np.int64)
    flat = frozen(plane)
    look_at_plane(flat, 25, labels, factor, flat.view(np.uint32), counts, moments, histograms)
    field = (fine > 0) & np.isfinite(plane)
    tissue = field & np.isin(fine, (1, 4, 5))
    expected = [field, field & (plane != 0), tissue, tissue & (plane <= 0), field & (plane == 50)]
    assert counts.tolist() == [int(where.sum()) for where in expected]
    for kind in range(3):
        values = plane[field & (fine == kind + 3)].astype(float)
        np.testing.assert_allclose(moments[kind], [values.size, values.sum(), (values**2).sum()], rtol=1e-9)
        assert histograms[kind].sum() == values.size
        assert histograms[kind, 0] == (values <= 0).sum()
        above = np.sort(values[values > 0])
        bins = np.repeat(np.arange(1, BINS), histograms[kind, 1:])
        places = np.arange(255 * 16)  # of the edges of bins: a sixteenth of a power of two lies between them
        edges = 2.0 ** (places // 16 - 127) * (1 + places % 16 / 16)
        np.testing.assert_array_equal(bins, np.searchsorted(edges, above, side="right") - 1)


def test_contrast_of_blocks():
    rng = np.random.default_rng(5)
    plane = rng.gamma(4, 0.25, (8, 16)).astype(np.float32) + np.float32(2)
    labels = np.full((8, 16), 4, np.uint8)
    labels[:4, 12:] = 3
    labels[0, 0] = 1  # a block that is not of one class
    plane[7, 5] = np.nan
    found = np.empty((8, 2))
    n = contrasts_of_blocks(frozen(plane), 16, labels, 1, 4, 2.0, found)
    blocks = [(0, 4), (0, 8), (0, 12), (4, 0), (4, 8), (4, 12)]
    assert n == len(blocks)
    expected = []
    for y, x in blocks:
        block = plane[y : y + 4, x : x + 4].astype(float)
        expected.append([labels[y, x] - 3, block.var(ddof=1) / (block.mean() - 2) ** 2])
    np.testing.assert_allclose(found[:n], expected, rtol=1e-9)
