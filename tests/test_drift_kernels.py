"""Kernels of the model of tissue: classes, sums over them, least squares and the noise floor, in closed form."""

from __future__ import annotations

import dataclasses
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xoctnorm.depths import depth_of_planes, partial_first_section, position_of_planes
from xoctnorm.kernels import drift_model, drift_unknowns
from xoctnorm.kernels.class_sums import SLOTS, THROUGH, ClassImages, ClassSummer, ClassSums, Slot, tile_sums
from xoctnorm.kernels.classes import AGAROSE, BRIGHT, DARK, NONE, TissueClasses, classify
from xoctnorm.kernels.coarse import coarse_factor, coarse_mask, coarse_plane
from xoctnorm.kernels.drift import _explained, estimate
from xoctnorm.kernels.drift_model import DriftModel, Spreads
from xoctnorm.kernels.drift_unknowns import Planes
from xoctnorm.kernels.intensity import SCALES, linearize, scale_of_slope, spread_slope
from xoctnorm.kernels.noise_floor import highest_floor, most_likely_floor
from xoctnorm.kernels.section_views import VIEWS, SectionViews, end_planes
from xoctnorm.phantom import AGAROSE as MEDIUM
from xoctnorm.phantom import GREY_MATTER, WHITE_MATTER, make_phantom
from xoctnorm.sections import group_labels

N_SECTIONS, N_PLANES, FLOOR = 6, 6, 0.01
SECTION = np.repeat(np.arange(N_SECTIONS), N_PLANES)
DEPTH = np.tile(np.arange(N_PLANES), N_SECTIONS)
PLANES = Planes(SECTION, DEPTH, np.arange(float(SECTION.size)))
GAIN = np.array([0.1, -0.2, 0.15, 0.0, 0.25, -0.3])
PROFILE = np.stack([[-0.02, 0.02, 0.01, 0.0, -0.01, -0.02], -0.05 * np.arange(6), -0.08 * np.arange(6)])
PROFILE[1:, 0] -= 0.03  # the first plane has a value of its own
JITTER = np.random.default_rng(5).normal(0, 0.02, SECTION.size)
SEEN_BEFORE = N_PLANES // 2  # planes in which the set of the section before is seen
KIND, RELATIVE, AROUND = (np.array(column) for column in zip(*SLOTS, strict=True))


def synthetic(gain=GAIN, jitter=None, floor=FLOOR, agarose=0.06, noise=0.0, seed=0) -> ClassSums:
    """Sums as the model says; tissue of every section has another brightness, agarose the same."""
    rng = np.random.default_rng(seed)
    own = np.log([agarose, 0.2, 0.4])[:, None] + np.array([[0.0], [0.05], [0.05]]) * rng.normal(size=(3, N_SECTIONS))
    rows = SECTION[:, None] + RELATIVE
    log = gain[SECTION][:, None] + PROFILE[KIND, DEPTH[:, None]] + own[KIND, np.maximum(rows, 0)]
    log += 0.03 * AROUND * (-1.0) ** rows  # sets around a cut have a brightness of their own
    log = log + (np.zeros(SECTION.size) if jitter is None else jitter)[:, None]
    mean = np.exp(log) + floor
    mean *= 1 + noise * rng.normal(size=mean.shape)
    unseen = (RELATIVE < 0) & ((SECTION == 0) | (SEEN_BEFORE <= DEPTH))[:, None]
    unseen |= AROUND & (RELATIVE == 0) & ((SECTION == N_SECTIONS - 1) | (SEEN_BEFORE > DEPTH))[:, None]
    mean[unseen] = np.nan
    return ClassSums(mean, np.where(unseen, 0.0, 1e4), np.zeros(mean.shape), np.full(3, 1e-6))


def centred(values, axis=-1):
    """Differences from the mean."""
    return values - np.mean(values, axis=axis, keepdims=True)


# Least squares.


def test_exact_sums_give_back_what_they_were_made_from():
    found = estimate(synthetic(), PLANES)
    np.testing.assert_allclose(found.log_gain, centred(GAIN), atol=1e-3)
    np.testing.assert_allclose(found.profile, centred(PROFILE), atol=1e-3)
    np.testing.assert_allclose(found.log_jitter, 0, atol=1e-3)
    assert found.noise_floor == pytest.approx(FLOOR, abs=1e-3 * 0.06)
    assert found.agarose_weight.tolist() == [1] * N_SECTIONS
    assert found.floor_identified
    assert not found.agarose_rejected


@pytest.mark.parametrize("method", ["joint", "agarose", "continuity"])
def test_jitter_is_told_from_gain_and_profile(method):
    """Where it differs from depth to depth, its mean over sections belongs to the profile."""
    found = estimate(synthetic(jitter=JITTER), PLANES, method, FLOOR)
    total = found.log_gain[SECTION] + found.log_jitter - GAIN[SECTION] - JITTER
    by_depth = total.reshape(N_SECTIONS, N_PLANES)
    common = centred(by_depth.mean(axis=0))
    np.testing.assert_allclose(centred(by_depth - common, axis=None), 0, atol=3e-3)
    np.testing.assert_allclose(common, centred(PROFILE[0]) - found.profile[0], atol=7e-3)
    assert np.abs(centred(JITTER.reshape(N_SECTIONS, N_PLANES), axis=0)).max() > 0.03
    assert found.noise_floor == FLOOR
    assert found.floor_error == 0
    assert found.agarose_weight.tolist() == [float(method != "continuity")] * N_SECTIONS


def test_order_of_sections_does_not_matter():
    forth = estimate(synthetic(), PLANES)
    back = estimate(synthetic(gain=GAIN[::-1]), PLANES)
    np.testing.assert_allclose(back.log_gain, forth.log_gain[::-1], atol=1e-3)
    assert back.noise_floor == pytest.approx(forth.noise_floor, rel=1e-2)


def test_agarose_that_steps_is_not_used():
    sums = synthetic()
    steps = np.array([0.2, -0.2, 0.1, -0.1, 0.15, -0.15])
    sums.mean[:, AGAROSE] = FLOOR + (sums.mean[:, AGAROSE] - FLOOR) * np.exp(steps[SECTION])
    found = estimate(sums, PLANES, noise_floor=FLOOR)
    assert found.agarose_weight.tolist() == [0] * N_SECTIONS
    assert found.agarose_rejected
    assert found.agarose_steps == pytest.approx(steps.std(), rel=0.02)
    np.testing.assert_allclose(found.log_gain, centred(GAIN), atol=2e-3)


def test_one_section_whose_agarose_stands_out_is_left_out():
    sums = synthetic()
    sums.mean[SECTION == 2, AGAROSE] *= 1.3
    found = estimate(sums, PLANES)
    assert found.agarose_weight.tolist() == [1, 1, 0, 1, 1, 1]
    np.testing.assert_allclose(found.log_gain, centred(GAIN), atol=2e-3)


def test_nothing_to_link_a_section_leaves_its_gain_unsure():
    sums = synthetic()
    lone = SECTION == 3
    sums.mean[lone, AGAROSE] = np.nan
    sums.mean[np.ix_((SECTION == 3) | (SECTION == 4), RELATIVE < 0)] = np.nan
    found = estimate(sums, PLANES, noise_floor=FLOOR)
    assert found.gain_error[3] > 0.3
    # Gains are relative to the mean of all, which is as unsure as a sixth of it.
    np.testing.assert_allclose(np.delete(found.gain_error, 3), found.gain_error[3] / 5, rtol=0.01)
    others = np.delete(found.log_gain, 3) - np.delete(GAIN, 3)
    np.testing.assert_allclose(others, others.mean(), atol=1e-3)
    assert found.log_gain[3] - others.mean() == pytest.approx((GAIN[2] + GAIN[4]) / 2, abs=1e-3)


def test_links_that_agarose_makes_superfluous_are_taken_out():
    model = DriftModel(synthetic(), PLANES)
    tied = np.array([True, True, False, True, True, False])
    without = model.without_links(tied)
    gone = model.known & ~without.known
    both = np.isin(SECTION, [1, 4])  # sections whose own agarose counts, and that of the one before
    expected = model.known & both[:, None] & (RELATIVE < 0)
    assert expected.sum() == 2 * 4 * SEEN_BEFORE
    np.testing.assert_array_equal(gone, expected)
    np.testing.assert_array_equal(without.sums.mean[without.known], model.sums.mean[without.known])
    assert np.isfinite(model.sums.mean[gone]).all()  # the first model is as it was


@pytest.mark.parametrize("floor", [0.0, 0.004, 0.01, 0.03])
def test_the_objective_is_least_at_the_floor(floor):
    model, tied = DriftModel(synthetic(floor=floor), PLANES), np.ones(N_SECTIONS, bool)
    grid = np.linspace(0, 0.98 * highest_floor(model.sums), 50)
    cost = [model.objective(f, Spreads(), tied) for f in grid]
    assert abs(grid[int(np.argmin(cost))] - floor) <= grid[1]
    found, error = most_likely_floor(model, Spreads(), tied)
    assert found == pytest.approx(floor, abs=max(3 * error, 2e-4))
    assert error < 0.002


def test_the_floor_follows_from_jitter_where_sections_do_not_tell_it():
    sums = synthetic(jitter=5 * JITTER)
    sums.mean[:, AGAROSE] = FLOOR + (sums.mean[:, AGAROSE] - FLOOR) * np.exp(0.3 * GAIN[::-1][SECTION])
    model = DriftModel(sums, PLANES)
    found, error = most_likely_floor(model, Spreads(jitter=0.1, anatomy=0.001), np.zeros(N_SECTIONS, bool))
    assert found == pytest.approx(FLOOR, abs=0.001)
    assert 0 < error < 0.005


def test_no_floor_is_above_the_darkest_plane():
    sums = synthetic()
    assert highest_floor(sums) <= sums.mean[:, AGAROSE].min() * 1.05
    sums.mean[3, 1] = 0.02
    assert highest_floor(sums) == 0.02


def test_split_of_jitter_in_closed_form():
    left = np.array([[0.03, 0.01, -0.02], [0.02, np.nan, np.nan], [np.nan] * 3])
    known = np.isfinite(left)
    variance = np.array([1e-4, 4e-4, 1e-3])
    own = np.broadcast_to(np.diag(variance), (3, 3, 3))
    jitter, error, rest = drift_model._split_jitter(np.where(known, left, 0), own, known, np.full(3, 4e-4))
    weight = known / variance
    total = weight.sum(axis=1)
    raw = np.array([np.average(left[0], weights=1 / variance), 0.02, 0])
    shrink = np.array([4e-4 / (4e-4 + 1 / t) if t else 0 for t in total])
    np.testing.assert_allclose(jitter, shrink * raw, rtol=1e-12)
    np.testing.assert_allclose(error, 4e-4 * (1 - shrink), rtol=1e-12)
    np.testing.assert_allclose(rest[known], (left - jitter[:, None])[known], rtol=1e-12)
    assert np.isnan(rest[~known]).all()
    assert error[2] == 4e-4  # of a plane that nothing is known of: as much as jitter is


def test_sets_with_common_pixels_vary_together_as_speckle_makes_them():
    """The set that goes through a section, 600 pixels, shares 200 with one set and 300 with another; by Monte Carlo."""
    own, link, around = (SLOTS.index(s) for s in (Slot(DARK), Slot(DARK, -1), Slot(DARK, -1, around=True)))
    pixels = {own: np.arange(600), link: np.arange(400, 800), around: np.r_[0:300, 900:1000]}
    mean, count, common = np.full((1, len(SLOTS)), np.nan), np.zeros((1, len(SLOTS))), np.zeros((1, len(SLOTS)))
    for slot, where in pixels.items():
        mean[0, slot], count[0, slot] = 0.2, where.size
        common[0, slot] = np.intersect1d(where, pixels[own]).size
    model = DriftModel(ClassSums(mean, count, common, np.full(3, 1 / 6)), Planes(*np.zeros((2, 1), int), np.zeros(1)))
    # A floor of a quarter: relative errors of what is left are larger by a third.
    spreads = Spreads(anatomy=0.0)
    found = model._covariance(spreads, np.full((1, len(SLOTS)), 4 / 3))[0][np.ix_(list(pixels), list(pixels))]
    hundreds = np.random.default_rng(0).gamma(600, 1 / 600, (200_000, 10))  # means of 100 pixels each, of 6 looks
    signals = [(hundreds[:, where[::100] // 100].mean(axis=1) - 0.25) / 0.75 for where in pixels.values()]
    np.testing.assert_allclose(found, np.cov(signals), rtol=0.015, atol=6e-6)


def test_covariances_stay_positive_where_tiles_of_the_set_in_common_were_left_out():
    own, link, around = (SLOTS.index(s) for s in (Slot(DARK), Slot(DARK, -1), Slot(DARK, -1, around=True)))
    mean, count, common = (np.full((1, len(SLOTS)), value) for value in (np.nan, 0.0, 0.0))
    mean[0, [own, link, around]], count[0, [own, link, around]] = 0.2, (50, 60, 40)
    common[0, [own, link, around]] = 100, 60, 40  # half of what they had in common is left
    model = DriftModel(ClassSums(mean, count, common, np.full(3, 1 / 6)), Planes(*np.zeros((2, 1), int), np.zeros(1)))
    found = model._covariance(Spreads(anatomy=0.0), np.ones((1, len(SLOTS))))[0]
    assert np.linalg.eigvalsh(found).min() > 0
    np.testing.assert_allclose(found[own, [link, around]], 1 / 6 / 100, rtol=1e-12)


def test_sets_around_cuts_tell_gains_alone_where_others_do_not_reach_across():
    sums, nothing = synthetic(noise=1e-4), np.zeros(N_SECTIONS, bool)
    sums.mean[:, (RELATIVE < 0) & ~AROUND] = np.nan
    with_them = DriftModel(sums, PLANES).solve(FLOOR, Spreads(), nothing)
    without = DriftModel(sums.through(), PLANES).solve(FLOOR, Spreads(), nothing)
    np.testing.assert_allclose(with_them.gain, centred(GAIN), atol=0.01)
    assert np.abs(without.gain - centred(GAIN)).max() > 0.1
    assert np.diag(with_them.gain_cov).max() < 0.01 * np.diag(without.gain_cov).max()


@pytest.mark.parametrize("unseen", [None, AGAROSE, BRIGHT])
@pytest.mark.parametrize("by_agarose", [False, True])
@pytest.mark.parametrize("everything", [False, True])
def test_many_sections_are_solved_as_few_are(by_agarose, everything, unseen, monkeypatch):
    """A class that no plane shows keeps nothing from being told precisely."""
    sums = synthetic(noise=1e-3)
    if unseen is not None:
        sums.mean[:, unseen == KIND] = np.nan
    sums = sums if everything else sums.through()
    tied, found = np.full(N_SECTIONS, by_agarose and unseen != AGAROSE), []
    for few in (0, 10**6):
        monkeypatch.setattr(drift_unknowns, "_FEW", few)
        planes = replace(PLANES)  # whose unknowns are made anew
        model = DriftModel(sums, planes)
        solution = model.solve(FLOOR, Spreads(), tied)
        assert (planes.unknowns(model.n_slots).equations.n_first > 0) == (few == 0)
        names = ("gain", "jitter", "bend", "medium", "residual", "chi2", "gain_cov", "medium_cov")
        values = {name: getattr(solution, name) for name in names}
        seen = [kind for kind in range(3) if kind != unseen]
        values |= {"profile": solution.profile[seen], "profile_cov": solution.profile_cov[seen]}
        found.append(values | {"objective": model.objective(FLOOR, Spreads(), tied)})
    assert found[0].pop("objective") == pytest.approx(found[1].pop("objective"), abs=2e-6)
    for name, value in found[0].items():
        scale = np.nanmax(np.abs(value), initial=0)
        np.testing.assert_allclose(value, found[1][name], rtol=1e-6, atol=1e-6 * scale, err_msg=name)


@pytest.mark.parametrize("by_agarose", [False, True])
def test_doubted_observations_count_less(by_agarose):
    sums = synthetic(noise=1e-4).through()
    tied = np.full(N_SECTIONS, by_agarose)
    plain = DriftModel(sums, PLANES).solve(FLOOR, Spreads(), tied)
    sums.mean[SECTION == 2, DARK] *= 1.5  # wrong, since the next section does not see it
    doubt = np.ones((SECTION.size, len(THROUGH)))
    doubt[SECTION == 2, DARK] = 1e4
    model = DriftModel(sums, PLANES)
    trusting, doubting = (m.solve(FLOOR, Spreads(), tied) for m in (model, model.doubted(doubt)))
    assert np.abs(trusting.gain - plain.gain).max() > 0.03
    np.testing.assert_allclose(doubting.gain, plain.gain, atol=2e-4)
    assert doubting.chi2 < 1 < 100 < trusting.chi2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, N_SECTIONS - 1), st.floats(0.3, 3), st.integers(0, 1000), st.booleans())
def test_a_section_times_a_constant_moves_its_gain_by_that(row, factor, seed, by_agarose):
    sums = synthetic(floor=0.0, noise=3e-3, seed=seed)
    tied = np.full(N_SECTIONS, by_agarose)
    times = np.where(row == SECTION, factor, 1.0)[:, None]
    before = DriftModel(sums, PLANES).solve(0.0, Spreads(), tied)
    after = DriftModel(replace(sums, mean=sums.mean * times), PLANES).solve(0.0, Spreads(), tied)
    expected = centred(before.gain + np.log(factor) * (np.arange(N_SECTIONS) == row))
    np.testing.assert_allclose(after.gain, expected, atol=1e-3 * abs(np.log(factor)) + 1e-9)
    np.testing.assert_allclose(after.profile, before.profile, atol=1e-3)


@settings(max_examples=4, deadline=None)
@given(st.floats(1e-3, 1e4), st.integers(0, 1000))
def test_brightness_of_the_volume_moves_the_floor_alone(factor, seed):
    sums = synthetic(jitter=JITTER, noise=1e-3, seed=seed)
    one, other = (estimate(replace(sums, mean=sums.mean * f), PLANES) for f in (1.0, factor))
    assert other.noise_floor == pytest.approx(factor * one.noise_floor, rel=1e-4, abs=1e-5 * factor)
    assert other.floor_error == pytest.approx(factor * one.floor_error, rel=1e-2)
    for name in ("log_gain", "log_jitter", "profile", "agarose_weight"):
        np.testing.assert_allclose(getattr(other, name), getattr(one, name), atol=1e-5)
    np.testing.assert_allclose(other.gain_error, one.gain_error, rtol=1e-2)


# Classes.


def views_of(phantom) -> np.ndarray:
    section = phantom.section.values
    views = SectionViews(phantom.volume.shape[1:], np.bincount(section))
    for plane, s, n in zip(phantom.volume.values, section, phantom.depth.values, strict=True):
        views.add(plane, int(s), int(n))
    return views.means()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("decay", [0.05, (0.04, 0.08)])
def test_without_noise_only_true_classes_are_found(seed, decay):
    phantom = make_phantom(shape=(96, 120), planes_per_section=6, looks=None, seed=seed, decay=decay)
    truth = phantom.tissue_class.values.reshape(12, 6, 96, 120)
    agarose = (truth == MEDIUM).all(axis=1)
    classes = classify(views_of(phantom), agarose, np.arange(12) < 11)
    for found, planes in ((classes.start, slice(0, 3)), (classes.through, slice(None))):
        right = np.zeros(found.shape, bool)
        for kind, value in ((AGAROSE, MEDIUM), (DARK, GREY_MATTER), (BRIGHT, WHITE_MATTER)):
            right |= (found == kind) & (truth[:, planes] == value).all(axis=1)
        assert ((found != NONE) & ~right).sum() <= 0.002 * right.sum()
        assert right.mean() > 0.5
    beside = truth[:-1, 3:], truth[1:, :3]
    for kind, value in ((DARK, GREY_MATTER), (BRIGHT, WHITE_MATTER)):
        stays = np.all([(planes == value).all(axis=1) for planes in beside], axis=0)
        found = classes.around[:-1] == kind
        assert (found & ~stays).sum() <= 0.01 * found.sum()
        assert (found & stays).sum() >= 0.5 * stays.sum()
    assert (classes.around[-1] == NONE).all()
    assert classes.contrast == pytest.approx(np.log(0.41 / 0.21), abs=0.08)


def test_what_is_near_an_edge_or_empty_has_no_class():
    image = np.full((60, 80), 0.06, np.float32)
    image[10:50, 10:70] = 0.2
    image[10:50, 40:70] = 0.4
    image[20:25, 20:25] = np.nan
    agarose = (image == np.float32(0.06))[None]
    found = classify(image[None, None].repeat(VIEWS, axis=1), agarose, np.zeros(1, bool)).start[0]
    assert (found[10:50, 39:41] == NONE).all()
    assert (found[20:25, 20:25] == NONE).all()
    assert (found[14:46, 15:18] == DARK).all()
    assert (found[14:46, 45:66] == BRIGHT).all()
    assert (found[9:11, 12:68] == NONE).all()
    assert found[0, 0] == AGAROSE


def test_tissue_of_one_kind_is_dark():
    rng = np.random.default_rng(0)
    image = np.where(np.arange(80) < 20, 0.06, 0.3) * rng.gamma(300, 1 / 300, (60, 80))
    agarose = np.broadcast_to(np.arange(80) < 20, (1, 60, 80))
    classes = classify(image.astype("f4")[None, None].repeat(VIEWS, axis=1), agarose, np.zeros(1, bool))
    assert classes.contrast == 0
    assert (classes.start != BRIGHT).all()
    assert (classes.start[0, 5:55, 25:75] == DARK).all()


def test_pixels_that_are_another_class_in_the_middle_are_left_out():
    views = np.full((1, VIEWS, 60, 80), 0.2, np.float32)
    views[..., 40:] = 0.4
    views[0, 2, 10:30, 10:30] = 0.4
    classes = classify(views, np.zeros((1, 60, 80), bool), np.zeros(1, bool))
    assert (classes.start[0, 35:55, 5:35] == DARK).all()
    assert (classes.through[0, 12:28, 12:28] == NONE).all()
    assert (classes.through[0, 35:55, 5:35] == DARK).all()


def test_views_are_means_without_spots_and_holes():
    ends = SectionViews((4, 5), np.array([7]))
    planes = np.random.default_rng(0).uniform(1, 2, (7, 4, 5)).astype("f4")
    planes[0, 0, 0], planes[1, 1, 1], planes[6, 2, 2] = np.nan, 0, 1e6
    for number, plane in enumerate(planes):
        ends.add(plane, 0, number)
    first, middle, last = ends.means()[0, [0, VIEWS // 2, -1]]
    k = end_planes(7)
    assert k == 2
    np.testing.assert_allclose(first[3], planes[:2, 3].mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(middle, planes[2:4].mean(axis=0), rtol=1e-6)
    assert first[0, 0] == planes[1, 0, 0]
    assert first[1, 1] == planes[0, 1, 1]
    spot = 20 * np.median(planes[6])
    assert last[2, 2] == pytest.approx((planes[5, 2, 2] + spot) / 2, rel=1e-6)


# Sums.


def sums_over(planes, classes, section, around=None) -> ClassSums:
    start, through = classes
    around = np.full_like(start, NONE) if around is None else around
    images = ClassImages(TissueClasses(start, through, around, 0.5, 1.0), np.asarray(section))
    summer = ClassSummer(images)
    for number, plane in enumerate(planes):
        summer.add(number, tile_sums(plane, images.of_plane(number)))
    return summer.sums()


def test_planes_that_take_no_part_change_nothing():
    rng, classes = np.random.default_rng(8), three_classes(2)
    planes, section = rng.gamma(4, size=(6, 48, 64)).astype(np.float32), np.array([0, 0, 0, 1, 1, 1])
    among_others = np.array([-1, 0, 0, -1, 0, 1, -1, 1, 1])
    images = ClassImages(TissueClasses(*classes, np.full_like(classes[0], NONE), 0.5, 1.0), among_others)
    summer, rest = ClassSummer(images), iter(planes)
    for number, row in enumerate(among_others):
        plane = next(rest) if row >= 0 else np.full((48, 64), 9, np.float32)
        summer.add(number, tile_sums(plane, images.of_plane(number)))
    for found, expected in zip(
        dataclasses.astuple(summer.sums()), dataclasses.astuple(sums_over(planes, classes, section)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def three_classes(n_sections) -> tuple[np.ndarray, np.ndarray]:
    image = np.full((48, 64), NONE, np.int8)
    image[:, :16], image[:, 20:40], image[:, 44:64] = AGAROSE, DARK, BRIGHT
    return tuple(np.broadcast_to(image, (2, n_sections, 48, 64)).copy())


def noisy_planes(levels=(0.06, 0.2, 0.4), n=4, seed=0, looks=50) -> np.ndarray:
    image = np.zeros((48, 64))
    image[:, :16], image[:, 20:40], image[:, 44:64] = levels
    rng = np.random.default_rng(seed)
    return (image * rng.gamma(looks, 1 / looks, (n, 48, 64))).astype("f4")


def test_sums_are_plain_means():
    classes, planes = three_classes(2), noisy_planes(n=8)
    sums = sums_over(planes, classes, [0] * 4 + [1] * 4)
    for z, plane in enumerate(planes):
        for slot, (kind, relative, around) in enumerate(SLOTS):
            seen = not around and (not relative or z in (4, 5))  # the first half of the next section
            expected = plane[classes[0][0] == kind].mean(dtype="f8") if seen else np.nan
            assert sums.mean[z, slot] == pytest.approx(expected, rel=1e-9, nan_ok=True)
            assert sums.count[z, slot] == (seen and (classes[0][0] == kind).sum())
    assert sums.common[4, 3:5].tolist() == [(classes[0][0] == kind).sum() for kind in (DARK, BRIGHT)]


def test_sets_around_a_cut_are_seen_next_to_it_without_what_is_followed_anyway():
    (start, through), planes = three_classes(2), noisy_planes(n=8)
    around = np.full_like(start, NONE)
    around[0] = start[0]
    start[0, :24, 44:64] = through[0, :24, 44:64] = NONE  # 24 rows of bright tissue are something else at first
    sums = sums_over(planes, (start, through), [0] * 4 + [1] * 4, around)
    own, link, before, after = (SLOTS.index(s) for s in (Slot(2), Slot(2, -1), Slot(2, 0, True), Slot(2, -1, True)))
    for slot, seen in ((before, (2, 3)), (after, (4, 5))):
        assert np.flatnonzero(np.isfinite(sums.mean[:, slot])).tolist() == list(seen)
        for z in seen:
            assert sums.mean[z, slot] == pytest.approx(planes[z, :24, 44:64].mean(dtype="f8"), rel=1e-9)
            assert sums.count[z, slot] == 24 * 20
    assert sums.common[3, [own, before]].tolist() == [24 * 20, 0]
    assert sums.common[4, [own, link, after]].tolist() == [48 * 20, 24 * 20, 24 * 20]
    dark = [SLOTS.index(Slot(DARK, relative, around=True)) for relative in (0, -1)]
    assert np.isnan(sums.mean[:, dark]).all()  # all of it goes through and on
    assert sums.through().mean.shape == (8, len(THROUGH))


def test_sections_whose_agarose_tissue_can_explain_come_back():
    medium = np.array([0.0, 0.01, -0.01, 0.09, 0.09, np.nan])
    cov = np.diag([0.01, 0.01, 0.01, 0.03, 0.01]) ** 2  # of those that are known
    tied = np.array([True, True, True, False, False, False])
    apart = SimpleNamespace(medium=medium, medium_cov=cov)
    # 3.7 standard errors do not stand out, 8 do; without agarose nothing is known.
    assert _explained(apart, tied, np.isfinite(medium)).tolist() == [False, False, False, True, False, False]


def test_variance_of_a_pixel_is_that_of_speckle():
    sums = sums_over(noisy_planes(n=30), three_classes(1), [0] * 30)
    np.testing.assert_allclose(sums.variance, 1 / 50, rtol=0.3)


def test_sets_that_change_their_class_at_the_cut_are_not_compared_across_it():
    classes = three_classes(2)
    classes[0][1][:, 20:40] = BRIGHT  # all dark tissue turns bright
    sums = sums_over(noisy_planes(n=8), classes, [0] * 4 + [1] * 4)
    assert np.isnan(sums.mean[:, SLOTS.index(Slot(DARK, -1))]).all()
    assert np.isfinite(sums.mean[:4, SLOTS.index(Slot(DARK))]).all()
    assert sums.count[4, SLOTS.index(Slot(DARK))] == 20 * 48
    half = three_classes(2)
    half[0][1][:, 20:27] = BRIGHT  # less than half: those that stay are compared
    sums = sums_over(noisy_planes(n=8), half, [0] * 4 + [1] * 4)
    assert sums.count[4, SLOTS.index(Slot(DARK, -1))] == 13 * 48
    assert sums.count[0, SLOTS.index(Slot(DARK))] == 13 * 48


@pytest.mark.parametrize("spoilt", [5.0, 0.2, np.nan, 0.0])
def test_a_tile_that_stands_out_is_left_out(spoilt):
    classes, planes = three_classes(1), noisy_planes(looks=500)
    clean = sums_over(planes, classes, [0] * 4)
    planes[2, 18:24, 24:32] *= np.float32(spoilt)  # one tile of dark tissue
    dirty = sums_over(planes, classes, [0] * 4)
    slot = SLOTS.index(Slot(DARK))
    assert clean.mean[2, slot] == pytest.approx(0.2, rel=0.005)
    assert dirty.mean[2, slot] == pytest.approx(clean.mean[2, slot], rel=1e-3)
    assert dirty.count[2, slot] == clean.count[2, slot] - 6 * 8
    np.testing.assert_allclose(dirty.mean[[0, 1, 3]], clean.mean[[0, 1, 3]], rtol=1e-3)


def test_voxels_without_data_do_not_count():
    classes, planes = three_classes(1), noisy_planes()
    holes = np.random.default_rng(1).random(planes.shape) < 0.2
    spoilt = np.where(holes, np.where(np.arange(64) % 2, np.nan, 0), planes).astype("f4")
    sums = sums_over(spoilt, classes, [0] * 4)
    for kind in (AGAROSE, DARK, BRIGHT):
        inside = (classes[0][0] == kind) & ~holes[1]
        assert sums.mean[1, SLOTS.index(Slot(kind))] == pytest.approx(planes[1][inside].mean(dtype="f8"), rel=3e-3)
        assert sums.count[1, SLOTS.index(Slot(kind))] == inside.sum()
    planes[3] = np.nan
    assert np.isnan(sums_over(planes, classes, [0] * 4).mean[3]).all()


# Depth and position, scales.


def test_depth_and_position_of_planes():
    sections = group_labels([0, 0, 1, 1, 1, 4, 4], "section")
    assert depth_of_planes(sections, None).tolist() == [0, 1, 0, 1, 2, 0, 1]
    # Sections 2 and 3 are lost: two sections of the usual size, two planes.
    assert position_of_planes(sections, None).tolist() == [0, 1, 2, 3, 4, 9, 10]
    micrometres = np.array([20.0, 30, 10, 20, 30, 10, 20])
    assert depth_of_planes(sections, micrometres).tolist() == [1, 2, 0, 1, 2, 0, 1]
    overlapping = np.array([0.0, 10, 10, 20, 30, 60, 70])
    assert position_of_planes(sections, overlapping).tolist() == [0, 1, 1, 2, 3, 6, 7]


@pytest.mark.parametrize(
    ("sizes", "lacking"), [([2, 5, 5, 5], 3), ([5, 5, 5, 5], 0), ([6, 5, 5, 5], 0), ([2, 5], 0), ([3, 5, 4, 2, 5], 1)]
)
def test_planes_that_the_first_section_lacks(sizes, lacking):
    sections = group_labels(np.repeat(np.arange(len(sizes)), sizes).tolist(), "section")
    assert partial_first_section(depth_of_planes(sections, None), sections) == lacking


@pytest.mark.parametrize(
    ("scale", "stored"), [("linear", lambda i: i), ("amplitude", np.sqrt), ("db", lambda i: 10 * np.log10(i))]
)
def test_linear_intensity_comes_back(scale, stored):
    intensity = np.array([[1e-4, 0.5, 3.0, np.nan]])
    plane = linearize(stored(intensity).astype("f4"), SCALES.index(scale))
    np.testing.assert_allclose(plane, intensity, rtol=2e-6)
    assert plane.dtype == np.float32


@pytest.mark.parametrize(
    ("stored", "slope", "told"),
    [
        (lambda i: i, 1, "linear"),
        (np.sqrt, 1, "linear"),  # which of the two does not show
        (lambda i: 10 * np.log10(i) + 30, 0, "db"),
        (lambda i: np.log1p(80 * i), 0.4, None),
    ],
)
def test_how_spread_follows_the_mean_tells_the_scale(stored, slope, told):
    rng = np.random.default_rng(0)
    level = np.geomspace(0.02, 0.2, 80)
    planes = [(stored(level * rng.gamma(6, 1 / 6, (64, 80))).astype("f4"), np.ones((64, 80), bool)) for _ in range(6)]
    found, error = spread_slope(planes)
    assert found == pytest.approx(slope, abs=0.12)
    assert error < 0.1
    assert scale_of_slope(found, error) == told
    assert scale_of_slope(found, 0.3) is None
    assert np.isnan(spread_slope([(planes[0][0], np.zeros((64, 80), bool))])[0])


# The coarse grid.


def test_planes_on_a_coarse_grid_are_means_of_blocks():
    plane = np.random.default_rng(0).uniform(1, 2, (7, 10)).astype("f4")
    plane[0, 0], plane[1, 1] = np.nan, 0
    plane[4:6, 6:9] = np.nan
    coarse = coarse_plane(plane, 3)
    assert coarse.shape == (3, 4)
    inside = plane[:3, :3]
    assert coarse[0, 0] == pytest.approx(inside[np.isfinite(inside) & (inside != 0)].mean(dtype="f8"), rel=1e-6)
    assert coarse[2, 3] == plane[6, 9]  # what is left over at the end
    assert np.isnan(coarse[1, 2])  # 6 of 9 have no data
    whole = coarse_plane(plane, 1)
    np.testing.assert_array_equal(whole, plane)
    assert not np.shares_memory(whole, plane)  # the plane may be overwritten
    mask = np.zeros((7, 10), bool)
    mask[:2, :3] = mask[3, 3:6] = True
    assert coarse_mask(mask, 3)[0, 0]
    assert coarse_mask(mask, 3).sum() == 1


@pytest.mark.parametrize(("shape", "factor"), [((128, 160), 1), ((362, 362), 1), ((363, 363), 2), ((4000, 3000), 10)])
def test_how_coarse(shape, factor):
    assert coarse_factor(*shape) == factor
    assert np.prod(coarse_plane(np.ones(shape, "f4"), factor).shape) <= 2**17
