"""Mean projections of sections in one byte per pixel."""

from __future__ import annotations

import numpy as np
import pytest

from xoctnorm.kernels.coarse import coarse_factor, coarse_plane
from xoctnorm.kernels.section_images import SectionImages

LARGE = (400, 500)


def image(shape, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    values = (np.exp(rng.normal(0, 0.7, shape)) + offset).astype(np.float32)
    values[:3], values[-2:] = np.nan, 0
    return values


def test_small_images_stay_as_they_are():
    images, one = SectionImages(1), image((30, 40))
    images.append(one)
    np.testing.assert_array_equal(images[0], one)
    np.testing.assert_array_equal(images.blocks(), one[None])


@pytest.mark.parametrize("offset", [0.0, -3.0])
def test_large_images_in_steps(offset):
    images = SectionImages(2)
    for seed in range(2):
        images.append(image(LARGE, seed, offset))
    for seed, found in enumerate(images):
        expected = image(LARGE, seed, offset)
        has = np.isfinite(expected) & (expected != 0)
        np.testing.assert_array_equal(np.isnan(found), ~has)
        low, high = np.percentile(expected[has], [0.5, 99.5])
        inside = has & (expected > low) & (expected < high)
        off = np.abs(found - expected)[inside]
        largest = (
            0.01 * expected[inside] if offset == 0 else 0.5 / 250 * np.ptp(np.percentile(expected[has], [0.05, 99.95]))
        )
        assert (off <= largest).all()
    blocks = np.stack([coarse_plane(image(LARGE, seed, offset), coarse_factor(*LARGE)) for seed in range(2)])
    np.testing.assert_array_equal(images.blocks(), blocks)


def test_few_pixels_below_zero_or_nearly_black_take_no_steps_from_others():
    one = np.abs(image(LARGE)) * 10
    one[50:60], one[100:140] = -0.01, 1e-4
    images = SectionImages(1)
    images.append(one)
    bright = one > 0.5
    inside = bright & (one < np.percentile(one[one > 0], 99.5))
    assert (np.abs(images[0] / one - 1)[inside]).max() < 0.02


def test_an_image_without_contrast_or_data():
    images = SectionImages(3)
    for value in (0.25, np.nan, 0.0):
        images.append(np.full(LARGE, value, np.float32))
    np.testing.assert_allclose(images[0], 0.25, rtol=1e-6)
    assert np.isnan(images[1]).all()
    assert np.isnan(images[2]).all()


def test_images_of_several_series_and_masks_in_their_place():
    parts = [SectionImages(2), SectionImages(1)]
    for part, seeds in zip(parts, ((0, 1), (2,)), strict=True):
        part.extend(image(LARGE, seed) for seed in seeds)
    whole = SectionImages(3)
    for part in parts:
        whole.extend(part)
    for found, expected in zip(whole, (*parts[0], *parts[1]), strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(whole.blocks(), np.concatenate([part.blocks() for part in parts]))
    kept, last = whole.copy(), whole[2]
    masks = whole.place_of_masks()
    masks[:2] = True
    assert masks.shape == (3, *LARGE)
    assert masks.dtype == bool
    np.testing.assert_array_equal(whole[2], last)
    np.testing.assert_array_equal(kept[0], parts[0][0])
    np.testing.assert_array_equal(np.isnan(last), whole.stepped(2).empty())
