"""Compiled sums of planes against NumPy, and the equations of the drift model against dense ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse
from scipy.linalg import block_diag

from xoctnorm.kernels import compiled, compiled_drift, drift_unknowns, generic
from xoctnorm.kernels.bordered import Bordered, Factor
from xoctnorm.kernels.class_sums import SLOTS, THROUGH
from xoctnorm.kernels.drift_equations import Equations, Priors, differences, product, rows_of
from xoctnorm.kernels.drift_unknowns import Planes
from xoctnorm.kernels.masks import MeanProjection, SectionMeans
from xoctnorm.kernels.section_views import SectionViews, view_cap
from xoctnorm.kernels.tile_series import TILES


def plane_with_gaps(seed: int = 0) -> np.ndarray:
    plane = np.random.default_rng(seed).gamma(4, size=(37, 53)).astype(np.float32)
    plane[3, 4:9], plane[20:22], plane[5, 5] = 0, np.nan, 1e4
    return plane


def test_means_do_not_depend_on_the_type_of_values():
    planes = [plane_with_gaps(seed) for seed in range(3)]
    means = []
    for dtype in (np.float32, np.float64):
        of_section, projection = SectionMeans(), MeanProjection(np.dtype(dtype))
        for plane in planes:
            projection.add(plane.astype(dtype)[None], of_section.sums(0, plane))
        means.append(of_section.means())
    np.testing.assert_array_equal(*means)


def test_views_of_sections_that_come_one_after_the_other():
    planes = [plane_with_gaps(seed) for seed in range(3)]
    views = SectionViews(planes[0].shape, np.array([1, 0, 2]))
    for plane, section, number in zip(planes, (0, 2, 2), (0, 0, 1), strict=True):
        views.add(plane, section, number, np.inf)
    means = views.means()
    has = np.isfinite(planes[0]) & (planes[0] != 0)
    np.testing.assert_array_equal(means[0], np.broadcast_to(np.where(has, planes[0], np.nan), means[0].shape))
    np.testing.assert_array_equal(means[2, -1], np.where(has, planes[2], np.nan))
    assert means.shape == (3, 5, *planes[0].shape)


def test_views_are_cut_down():
    plane = plane_with_gaps()
    has = np.isfinite(plane) & (plane != 0)
    cap = 20 * np.abs(np.median(plane[has]))
    assert np.float32(view_cap(plane)) == cap
    views = SectionViews(plane.shape, np.array([1]))
    views.add(plane, 0, 0)
    np.testing.assert_array_equal(views.means()[0, 0], np.where(has, np.minimum(plane, cap), np.nan))
    assert np.isnan(view_cap(np.zeros((3, 3), np.float32)))


def bordered(dense: np.ndarray, n_first: int, width: int) -> Bordered:
    """The lower triangle of a matrix in three parts."""
    n = len(dense)
    matrix = Bordered.zeros(n, n_first, width)
    for row, column in zip(*np.tril_indices(n), strict=True):
        if row < n_first and row - column > width:
            assert dense[row, column] == 0
        elif row < n_first:
            matrix.band[row, column - row + width] = dense[row, column]
        elif column < n_first:
            matrix.border[column, row - n_first] = dense[row, column]
        else:
            matrix.corner[row - n_first, column - n_first] = dense[row, column]
    return matrix


@pytest.mark.parametrize(("n_first", "width"), [(0, 0), (31, 0), (31, 6), (39, 40)])
def test_factor_of_a_matrix_with_a_border(n_first, width):
    rng = np.random.default_rng(1)
    rows = np.where(rng.random((90, 40)) < 0.1, rng.normal(size=(90, 40)), 0)
    row, column = np.indices((40, 40))
    near = (np.abs(row - column) <= width) | (row >= n_first) | (column >= n_first)
    size = 10.0 ** rng.integers(-2, 3, 40)
    matrix = (np.where(near, rows.T @ rows, 0) + np.diag(rng.random(40) + 30)) * size[:, None] * size
    factor = Factor.of(bordered(matrix, n_first, width))
    right, asked = rng.normal(size=40), np.array([3, 39, 0, 25, 38])
    np.testing.assert_allclose(factor.solve(right), np.linalg.solve(matrix, right), rtol=1e-9)
    inverse = np.linalg.inv(matrix)[np.ix_(asked, asked)]
    np.testing.assert_allclose(factor.inverse(asked), inverse, rtol=1e-9, atol=1e-12 * np.abs(inverse).max())
    assert factor.log_det == pytest.approx(np.linalg.slogdet(matrix)[1], rel=1e-10)


@pytest.mark.parametrize("n_first", [0, 1, 2])
def test_equations_have_to_be_positive_definite(n_first):
    matrix = np.array([[1.0, 2.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        Factor.of(bordered(matrix, n_first, 1))


def test_sparse_rows_times_a_vector():
    rng = np.random.default_rng(6)
    rows = sparse.csr_array(np.where(rng.random((30, 12)) < 0.3, rng.normal(size=(30, 12)), 0))
    vector = rng.normal(size=12)
    np.testing.assert_array_equal(product(rows, vector), rows @ vector)


@pytest.mark.parametrize("kernels", [compiled_drift, generic])
def test_pixels_are_added_to_their_tiles(kernels):
    rng, plane = np.random.default_rng(4), plane_with_gaps()
    plane[0, 7] = np.inf
    images = rng.integers(0, 4, (2, *plane.shape)).astype(np.uint8)
    images[1] += 3 * (images[1] > 0).astype(np.uint8)  # other slots than those of the first
    total, count = np.zeros((2, 6, TILES**2))
    kernels.add_tiles(compiled.frozen(plane), 53, images.reshape(2, -1), total, count)
    y, x = np.indices(plane.shape)
    tile = (y * TILES // 37) * TILES + x * TILES // 53
    for slot in range(6):
        there = (images == slot + 1).any(axis=0) & np.isfinite(plane) & (plane != 0)
        expected = np.bincount(tile[there], plane[there].astype(float), minlength=TILES**2)
        np.testing.assert_array_equal(total[slot], expected)
        np.testing.assert_array_equal(count[slot], np.bincount(tile[there], minlength=TILES**2))


def test_covariances_are_those_of_their_formula():
    rng, kind = np.random.default_rng(5), np.array([0, 1, 2, 1, 2])
    known, (error, inflation, doubt, shared) = rng.random((20, 5)) < 0.7, rng.random((4, 20, 5)) + 0.5
    anatomy, least = 0.3, 0.01
    own = np.full((20, 5, 5), np.nan)
    compiled_drift.covariances(known, error, inflation, doubt, kind, shared, anatomy, least, own)
    for z, i, j in np.ndindex(own.shape):
        same = kind[i] == kind[j] > 0
        expected = anatomy * same
        if i == j:
            expected = (expected + error[z, i] * inflation[z, i] ** 2 + least) * doubt[z, i] ** 2
        elif same:
            expected += shared[z, max(i, j)] * inflation[z, i] * inflation[z, j]
        expected = expected if known[z, i] and known[z, j] else float(i == j)
        assert own[z, i, j] == pytest.approx(expected, rel=1e-12)


def test_unknowns_are_made_once_for_the_slots_that_are_observed():
    planes = Planes(np.repeat([0, 1], 4), np.tile(np.arange(4), 2), np.arange(8.0))
    through, everything = planes.unknowns(len(THROUGH)), planes.unknowns(len(SLOTS))
    assert planes.unknowns(len(THROUGH)) is through
    assert planes.unknowns(len(SLOTS)).design is everything.design
    assert through.design.shape == (8 * len(THROUGH), through.start["end"])
    # Sets around cuts have levels of their own: two for each section.
    assert everything.start["end"] == through.start["end"] + 4
    np.testing.assert_array_equal(through.design[:, : planes.n_sections].toarray().argmax(axis=1)[::5], planes.section)


def test_covariances_are_inverted():
    rng = np.random.default_rng(2)
    known, common = rng.random((30, 5)) < 0.7, rng.random(30)
    half = rng.normal(size=(30, 5, 5))
    pairs = known[:, :, None] & known[:, None]
    own = np.where(pairs, half @ half.transpose(0, 2, 1) + 0.1 * np.eye(5), np.eye(5))
    weight = np.full_like(own, np.nan)
    log_det = compiled_drift.invert_blocks(own, known, common, weight)
    covariance = own + np.where(pairs, common[:, None, None], 0)
    np.testing.assert_allclose(weight, np.where(pairs, np.linalg.inv(covariance), 0), rtol=1e-9, atol=1e-10)
    assert log_det == pytest.approx(np.linalg.slogdet(covariance)[1].sum(), rel=1e-10)


@pytest.mark.parametrize("n_first", [0, 4, 6])
def test_normal_equations_are_those_of_dense_matrices(n_first):
    rng = np.random.default_rng(3)
    design = np.where(rng.random((60, 7)) < 0.4, rng.normal(size=(60, 7)), 0)
    design[:, [6, 1]] *= np.repeat(rng.random((20, 2)) < 0.5, 3, axis=0)
    half = rng.normal(size=(20, 3, 3)) * (rng.random((20, 3, 1)) < 0.8)
    weight, target = half @ half.transpose(0, 2, 1), rng.normal(size=(20, 3))
    priors, prior_weight = Priors.of([("a", differences(7, 0, 7, (1.0, -2.0, 1.0)))]), np.array([2.0, 0, 1, 1, 3])
    place = np.array([2, 0, 5, 1, 3, 6, 4])
    equations = Equations.of(sparse.csr_array(design), 3, priors.rows, place, n_first)
    normal, right = equations.normal(weight, target, prior_weight)
    w = block_diag(*weight)
    second = priors.rows.toarray() * prior_weight[:, None]
    expected = np.zeros((7, 7))
    expected[np.ix_(place, place)] = design.T @ w @ design + second.T @ second
    expected = bordered(expected, n_first, equations.width)
    np.testing.assert_allclose(normal.entries, expected.entries, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(right[place], design.T @ w @ target.ravel(), rtol=1e-12, atol=1e-12)
    assert equations.width < max(n_first, 1)


def test_first_are_unknowns_of_neighbouring_sections(monkeypatch):
    """All others stand in the border; the band is as narrow as what two sections share."""
    monkeypatch.setattr(drift_unknowns, "_FEW", 0)
    planes = Planes(np.repeat(np.arange(9), 4), np.tile(np.arange(4), 9), np.arange(36.0))
    for n_slots, of_section in ((len(THROUGH), 9), (len(SLOTS), 11)):
        unknowns = planes.unknowns(n_slots)
        equations, at = unknowns.equations, unknowns.start
        assert equations.n_first == 9 * of_section
        assert equations.width == of_section + (1 if n_slots == len(THROUGH) else 3)
        assert sorted(equations.place) == list(range(at["end"]))
        assert (equations.place[at["slope"] : at["medium"]] < equations.n_first).all()
        vector = np.random.default_rng(0).normal(size=at["end"])
        placed = np.empty_like(vector)
        placed[equations.place] = vector
        np.testing.assert_allclose(product(equations.design, placed), unknowns.design @ vector, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(product(equations.priors, placed), unknowns.priors.rows @ vector, atol=1e-12)


def test_priors_are_in_units_of_their_deviation():
    priors = Priors.of(
        [("a", differences(4, 1, 3, (1.0, -1.0))), ("b", rows_of(4, np.array([[0, 3]]), np.ones((1, 2))))]
    )
    weight = priors.weights({"a": 0.5, "b": 0.1}, np.array([False, True, False]))
    weighed = weight[:, None] * priors.rows.toarray()
    np.testing.assert_allclose(weighed, [[0, 2, -2, 0], [0, 0, 0, 0], [10, 0, 0, 10]])
