"""What the first read takes of planes, compiled and by any library, against plain NumPy, to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from xoctnorm.kernels import compiled_survey, generic
from xoctnorm.kernels.digest import MODULUS, digest
from xoctnorm.kernels.masks import MeanProjection, SectionMeans

NUMBERS = st.one_of(st.floats(-2, 2, width=32), st.sampled_from([0.0, -0.0, float("nan"), -float("nan")]))
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 20), st.integers(1, 30))

LAYOUTS = {
    "in one piece": lambda planes: planes,
    "read-only": lambda planes: np.frombuffer(planes.tobytes(), planes.dtype).reshape(planes.shape),
    "rows of planes": lambda planes: np.pad(planes, [(0, 0), (2, 3), (0, 0)], constant_values=7)[:, 2:-3],
    "columns of planes": lambda planes: np.pad(planes, [(0, 0), (0, 0), (1, 0)], constant_values=7)[..., 1:],
    "every third plane": lambda planes: np.repeat(planes, 3, axis=0)[1::3],
    "from the last on": lambda planes: planes[::-1].copy()[::-1],
    "transposed": lambda planes: planes.T.copy().T,
    "within records": lambda planes: within_records(planes),
}


def within_records(planes):
    records = np.zeros(planes.shape, [("before", "u1"), ("value", planes.dtype)])
    records["value"] = planes
    return records["value"]


def taken(add_planes, planes, *, of_section, start):
    """Everything that is added to, and what comes back."""
    n = planes[0].size
    total, missing, present, count = np.full(n, 0.25), np.ones(n, np.int32), np.zeros(n), np.zeros(n, np.int32)
    ends, words = add_planes(planes, total, missing, (present, count) if of_section else None, start, 1000)
    return total, missing, present, count, ends, words % MODULUS


def expected(planes, *, of_section, start):
    """The same of loops of NumPy."""
    n = planes[0].size
    total, missing, present, count = np.full(n, 0.25), np.ones(n, np.int32), np.zeros(n), np.zeros(n, np.int32)
    ends, words = np.full((len(planes), 2), np.nan), 0
    for number, plane in enumerate(planes.reshape(len(planes), -1)):
        has = ~np.isnan(plane)
        total[has] += plane[has]
        missing += ~has
        if of_section:
            present[has] += plane[has]
            count += has & (plane != 0)
        if has.any():
            ends[number] = plane[has].min(), plane[has].max()
        if start is not None:
            words += digest(plane, start + 1000 * number)
    return total, missing, present, count, ends, words % MODULUS


def assert_same(found, others):
    for one, other in zip(found, others, strict=True):
        np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=60)
@given(arrays(np.float32, SHAPES, elements=NUMBERS), st.booleans(), st.sampled_from([None, 0, 12_345_678_901]))
@example(np.full((5, 20, 20), np.nan, np.float32), True, 3)
def test_planes_of_floats(planes, of_section, start):
    call = {"of_section": of_section, "start": start}
    known = expected(planes, **call)
    for kernels in (compiled_survey, generic):
        assert_same(taken(kernels.add_planes, planes, **call), known)


@settings(deadline=None, max_examples=30)
@given(arrays(np.uint16, SHAPES, elements=st.sampled_from([0, 1, 300, 32768, 65535])), st.booleans())
def test_planes_of_whole_numbers(planes, of_section):
    known = expected(planes, of_section=of_section, start=5)
    for kernels in (compiled_survey, generic):
        assert_same(taken(kernels.add_planes, planes, of_section=of_section, start=5), known)


@pytest.mark.parametrize("dtype", ["float32", "uint16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_memory_may_be_laid_out_in_any_way(layout, dtype):
    planes = (1000 * np.random.default_rng(0).random((7, 13, 31))).astype(dtype)
    if dtype == "float32":
        planes[2, 3:5] = np.nan
    laid_out = LAYOUTS[layout](planes)
    np.testing.assert_array_equal(laid_out, planes)
    found = taken(compiled_survey.add_planes, laid_out, of_section=True, start=9)
    assert_same(found, expected(planes, of_section=True, start=9))
    np.testing.assert_array_equal(laid_out, planes)


def test_planes_that_are_one_and_the_same():
    plane = np.random.default_rng(0).random((13, 31)).astype(np.float32)
    planes = np.broadcast_to(plane, (6, 13, 31))
    found = taken(compiled_survey.add_planes, planes, of_section=True, start=9)
    assert_same(found, expected(planes, of_section=True, start=9))


@pytest.mark.parametrize("ends", [(-np.inf, np.inf), (-1e-45, 0.0), (-3.4e38, 3.4e38), (-2.0, -1.0)])
@pytest.mark.parametrize("missing", [False, True])
def test_ends_of_extremes(ends, missing):
    planes = np.array([[[*ends, *([np.nan] if missing else [])]]], np.float32)
    projection = MeanProjection(planes.dtype)
    found, _ = projection.add(planes)
    np.testing.assert_array_equal(found, [np.array(ends, np.float32)])


@pytest.mark.parametrize("dtype", ["float16", ">f4", "float64", "int16", "uint8", "uint64", "longdouble"])
def test_planes_of_other_types(dtype):
    planes = np.random.default_rng(0).integers(0, 100, (5, 6, 7)).astype(dtype)
    if planes.dtype.kind == "f":
        planes[1, 2:4] = np.nan
    assert_same(taken(generic.add_planes, planes, of_section=True, start=2), expected(planes, of_section=True, start=2))
    projection, sections = MeanProjection(planes.dtype), SectionMeans()
    ends, words = projection.add(planes, sections.sums(0, planes[0]), 2, 1000)
    assert_same((ends, words % MODULUS), expected(planes, of_section=True, start=2)[-2:])
    present = planes.astype(float)
    np.testing.assert_allclose(projection.mean(), np.nanmean(present, axis=0), rtol=1e-6)
    present[present == 0] = np.nan
    np.testing.assert_allclose(sections.means()[0], np.nanmean(present, axis=0), rtol=1e-6)
