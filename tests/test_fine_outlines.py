"""Outlines that are found on a coarse grid where planes are large, brought to full resolution."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from scipy import ndimage
from test_masks import relative_dice

from xoctnorm.corrections import BorderMask
from xoctnorm.corrections import agarose as border
from xoctnorm.kernels import compiled_regions
from xoctnorm.kernels.coarse import coarse_seeds
from xoctnorm.kernels.fine_outlines import enlarged
from xoctnorm.phantom import make_phantom


@pytest.fixture(scope="module")
def phantom() -> xr.Dataset:
    return make_phantom(shape=(500, 631), n_sections=4, planes_per_section=6, seed=7)


def mask_of(phantom: xr.Dataset, **options: object) -> xr.DataArray:
    return phantom["volume"].octnorm.agarose_mask(method="border", per_section=True, **options)


def parts(mask: np.ndarray) -> np.ndarray:
    """Sizes of the parts of a mask and of the rest."""
    return np.concatenate([np.bincount(ndimage.label(one)[0].ravel())[1:] for one in (mask, ~mask)])


def test_outlines_are_as_good_as_at_full_resolution(phantom, monkeypatch):
    found = mask_of(phantom)
    monkeypatch.setattr(border, "coarse_factor", lambda *_: 1)
    full = mask_of(phantom)
    assert found.shape == full.shape
    assert relative_dice(phantom, found) >= relative_dice(phantom, full) - 0.001
    assert set(found["agarose_origin"].values.tolist()) == {"found"}


def test_outlines_are_finer_than_blocks(phantom):
    mask = mask_of(phantom).values[0]
    rows, columns = (np.add.reduceat(mask, np.arange(0, n, 2), axis=axis) for axis, n in enumerate(mask.shape))
    assert (rows == 1).any()
    assert (columns == 1).any()


def test_no_part_is_smaller_than_asked_for(phantom):
    for mask in mask_of(phantom).values:
        assert parts(mask).min() >= 25


def test_planes_without_data_at_their_margin(phantom):
    empty = np.zeros(phantom["volume"].shape[1:], bool)
    empty[:, :7] = True
    volume = phantom["volume"].where(~xr.DataArray(empty, dims=("y", "x")), 0)
    mask = volume.octnorm.agarose_mask(method="border", per_section=True)
    assert not mask.values[:, empty].any()


def test_seeds_are_agarose(phantom):
    truth = mask_of(phantom).values.all(axis=0)
    seeds = ndimage.binary_erosion(truth, iterations=9)
    mask = mask_of(phantom, seeds=seeds)
    assert mask.values[:, seeds].all()
    assert relative_dice(phantom, mask) >= 0.98


def test_single_seeds_are_not_lost():
    seeds = np.zeros((9, 9), bool)
    seeds[4, 4] = True
    assert coarse_seeds(seeds, 3).tolist() == [[False] * 3, [False, True, False], [False] * 3]
    seeds[:3, :3] = True
    assert coarse_seeds(seeds, 3).sum() == 1


def test_masks_of_planes_stay_at_full_resolution(phantom):
    volume = phantom["volume"].isel(z=slice(0, 4))
    assert volume.octnorm.agarose_mask(method="border", per_plane=True).shape == volume.shape
    assert BorderMask(per_plane=True).wants_section_means


def test_blocks_at_the_end_are_cut():
    assert enlarged(np.array([[True, False]]), 3, (2, 5)).tolist() == [[True] * 3 + [False] * 2] * 2


def test_settled_pixels_follow_evidence_and_neighbours():
    belief = np.full((5, 5), 1, np.float32)
    places = np.array([6, 7, 12])
    evidence = np.array([-20, -1, 3], np.float32)
    compiled_regions.settle_pixels(belief.reshape(-1), places, evidence, 5, 6)
    assert (belief.reshape(-1)[places] < 0).tolist() == [True, False, False]
    assert (np.delete(belief, places) == 1).all()


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_pixels_that_need_not_be_asked_again_are_as_if_they_were(factor):
    rng = np.random.default_rng(factor)
    coarse = ndimage.gaussian_filter(rng.normal(size=(23, 31)), 2) > 0
    shape = 23 * factor - factor // 2, 31 * factor - factor // 2
    belief = np.empty((shape[0] + 2, shape[1] + 2), np.float32)
    compiled_regions.believe_blocks(coarse, factor, belief)
    expected = np.where(np.pad(enlarged(coarse, factor, shape), 1, mode="edge"), np.float32(-1), np.float32(1))
    np.testing.assert_array_equal(belief, expected)
    y, x = np.nonzero(rng.uniform(size=shape) < 0.5)
    evidence = rng.uniform(-20, 20, y.size).astype(np.float32)
    n_x = belief.shape[1]
    places = (y + 1) * n_x + x + 1
    compiled_regions.settle_pixels(belief.reshape(-1), places, evidence, n_x, 6)
    settled = expected.reshape(-1)
    for sweep in range(7):
        for at, told in zip(places, evidence, strict=True):
            around = np.float32(0)
            if sweep:
                left, right, up, down = (settled[at + step] for step in (-1, 1, -n_x, n_x))
                corners = [settled[at + step] for step in (-n_x - 1, -n_x + 1, n_x - 1, n_x + 1)]
                around = (
                    left + right + up + down + np.float32(0.7) * (corners[0] + corners[1] + corners[2] + corners[3])
                )
            settled[at] = np.tanh((told + around) / np.float32(2))
    np.testing.assert_allclose(belief.reshape(-1), settled, rtol=0, atol=2e-6)


def test_specks_are_flipped():
    rng = np.random.default_rng(2)
    values = np.where(ndimage.gaussian_filter(rng.normal(size=(60, 70)), 1.5) > 0, 1, -1).astype(np.float32)
    before = np.pad(values, 1, constant_values=1)
    looked_at = np.zeros(before.shape, bool)
    looked_at[10:-10, 10:-10] = True
    after = before.copy()
    compiled_regions.flip_specks(after.reshape(-1), np.flatnonzero(looked_at), after.shape[1], 12)
    inner = np.zeros(before.shape, bool)
    inner[1:-1, 1:-1] = True
    changed = np.zeros(before.shape, bool)
    for sign in (-1, 1):
        labels, n = ndimage.label((before == sign) & inner)
        for part in range(1, n + 1):
            here = labels == part
            changed |= here & (here.sum() < 12) & looked_at[here].any()
    assert changed.any()
    np.testing.assert_array_equal(after, np.where(changed, -before, before))
