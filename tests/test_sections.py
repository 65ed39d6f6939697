"""Sections come from coordinates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from xoctnorm import InputError
from xoctnorm.sections import find_sections, group_labels


def stack(labels, z=None):
    da = xr.DataArray(np.ones((len(labels), 2, 3)), dims=("z", "y", "x"))
    da = da.assign_coords(section=("z", labels))
    return da if z is None else da.assign_coords(z=z)


def test_table():
    table = stack(["b", "b", "a", "c", "c", "c"], z=np.arange(6) * 5.0).octnorm.sections
    assert table.to_dict("list") == {
        "label": ["b", "a", "c"],
        "n_planes": [2, 1, 3],
        "first_plane": [0, 2, 3],
        "last_plane": [1, 2, 5],
        "first_z": [0.0, 10.0, 15.0],
        "last_z": [5.0, 10.0, 25.0],
    }


def test_table_without_coordinate_is_one_section():
    table = xr.DataArray(np.ones((4, 2, 2)), dims=("z", "y", "x")).octnorm.sections
    assert table[["n_planes", "first_plane", "last_plane", "first_z", "last_z"]].values.tolist() == [[4, 0, 3, 0, 3]]


def test_section_dimension_is_flattened_section_by_section():
    da = xr.DataArray(
        np.ones((2, 3, 2, 2)), dims=("section", "z", "y", "x"), coords={"section": ["p", "q"], "z": [0.0, 5, 10]}
    )
    for held in (da, da.transpose("z", "x", "section", "y")):
        table = held.octnorm.sections
        assert table.label.tolist() == ["p", "q"]
        assert table.first_plane.tolist() == [0, 3]
        assert table.first_z.tolist() == [0, 0]
        assert table.last_z.tolist() == [10, 10]
    assert da.drop_vars("section").octnorm.sections.label.tolist() == [0, 1]


def test_multiindex_level():
    index = pd.MultiIndex.from_arrays([[7, 7, 8], [0, 1, 0]], names=["section", "plane"])
    da = xr.DataArray(np.ones((3, 2, 2)), dims=("z", "y", "x")).assign_coords(
        xr.Coordinates.from_pandas_multiindex(index, "z")
    )
    assert da.octnorm.sections.label.tolist() == [7, 8]
    assert da.octnorm.sections.first_z.tolist() == [(7, 0), (8, 0)]


def test_other_coordinate_each_plane_and_scalar():
    da = stack([0, 0, 1, 1]).assign_coords(slab=("z", list("aabb")))
    assert find_sections(da, "slab").labels == ("a", "b")
    assert len(find_sections(da, "z")) == 4
    scalar = da.drop_vars("section").assign_coords(section=5)
    assert find_sections(scalar).labels == (5,)
    assert find_sections(scalar).explicit


@pytest.mark.parametrize(
    ("labels", "position", "named"),
    [
        ([0, 0, 1, 2], [0, 1, 2], False),
        ([3, 3, 4, 7], [0, 1, 4], False),  # sections 5 and 6 are missing
        ([9, 8, 8, 5], [0, 1, 4], False),  # counted downwards
        ([0, 10, 20, 20], [0, 1, 2], True),  # micrometres are names, and a warning says so
        ([2, 1, 3, 3], [0, 1, 2], True),  # up and down
        (["a", "c", "d", "d"], [0, 1, 2], False),
        ([0.0, 1.0, 5.0, 5.0], [0, 1, 2], False),
        ([4, 4, 4, 4], [0], False),
        ([0, 1, 10**12, 10**12], [0, 1, 10**12], False),
    ],
)
def test_positions(labels, position, named):
    sections = find_sections(stack(labels))
    assert sections.position.tolist() == position
    assert bool(sections.notes) == named
    if named:
        assert "taken as names" in sections.notes[0]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([1, 1, 2, 1], r"come back after another label: 1 on plane 3"),
        (["a", "b", "a", "b"], r"'a' on plane 2, 'b' on plane 3"),
        ([0.0, np.nan, 1.0, np.nan], r"no label \(NaN\) on plane 1, 3"),
        (np.array(["2024-01-01", "NaT", "2024-01-02", "2024-01-02"], "M8[ns]"), "on plane 1"),
        (np.array([1, None, 2, 2], object), "on plane 1"),
    ],
)
def test_bad_labels_name_the_label_and_the_plane(labels, message):
    with pytest.raises(InputError, match=message):
        _ = stack(labels).octnorm.sections


def test_bad_coordinates():
    da = stack([0, 0, 1])
    with pytest.raises(
        InputError, match=r"section='slab' is no coordinate of the volume; along z there are: 'section'"
    ):
        find_sections(da, "slab")
    with pytest.raises(InputError, match=r"section='x': sections group planes"):
        find_sections(da, "x")
    with pytest.raises(InputError, match=r"section='column' has dims \('x',\); it must lie along 'z'"):
        find_sections(da.assign_coords(column=("x", [1, 2, 3])), "column")


@given(st.lists(st.integers(1, 5), min_size=1, max_size=12), st.data())
def test_grouping_is_the_run_lengths(lengths, data):
    labels = data.draw(st.lists(st.text(max_size=3), min_size=len(lengths), max_size=len(lengths), unique=True))
    sections = group_labels(np.repeat(np.array(labels, object), lengths).tolist(), "section")
    assert list(sections.labels) == labels
    assert sections.n_planes.tolist() == lengths
    assert sections.first_plane.tolist() == [0, *np.cumsum(lengths)[:-1].tolist()]


@given(st.integers(1, 200), st.data())
def test_assigning_by_number_divides_as_the_reference(n_planes, data):
    n = data.draw(st.integers(1, n_planes))
    da = xr.DataArray(np.ones((n_planes, 1, 1)), dims=("z", "y", "x")).octnorm.assign_sections(n=n)
    starts = da.octnorm.sections.first_plane.tolist()
    assert starts == [round(i * n_planes / n) for i in range(n)]
    assert da.octnorm.sections.label.tolist() == list(range(n))


def test_assigning_by_thickness_and_by_starts():
    z = np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 1.0])
    da = xr.DataArray(np.ones((8, 1, 1)), dims=("z", "y", "x"), coords={"z": z})
    assert da.octnorm.assign_sections(thickness=0.3).section.values.tolist() == [0, 0, 0, 1, 1, 1, 2, 3]
    assert da[::-1].octnorm.assign_sections(thickness=0.3).section.values.tolist() == [0, 1, 1, 2, 2, 2, 3, 3]
    z32 = (np.arange(400) * 0.1).astype("f4")
    fine = xr.DataArray(np.ones((400, 1, 1)), dims=("z", "y", "x"), coords={"z": z32})
    assert fine.octnorm.assign_sections(thickness=0.3).section.values.tolist() == [i // 3 for i in range(400)]
    gap = da.isel(z=[0, 1, 2, 6, 7]).octnorm.assign_sections(thickness=0.3)
    assert gap.section.values.tolist() == [0, 0, 0, 2, 3]
    assert da.octnorm.assign_sections(starts=[0, 5]).section.values.tolist() == [0] * 5 + [1] * 3
    assert "section" not in da.coords


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "exactly one of n, thickness and starts is needed, got none"),
        ({"n": 2, "starts": [0]}, "got n, starts"),
        ({"n": 0}, "n=0: needs a whole number from 1 to the number of planes, 6"),
        ({"n": 7}, "n=7"),
        ({"n": 2.5}, "n=2.5"),
        ({"thickness": 0}, "thickness=0: needs a number above 0"),
        ({"thickness": float("nan")}, "thickness=nan"),
        ({"starts": [1, 3]}, r"starts=\[1, 3\]: needs increasing plane numbers from 0 to 5, the first of them 0"),
        ({"starts": [0, 3, 3]}, r"starts=\[0, 3, 3\]"),
        ({"starts": [0, 6]}, r"starts=\[0, 6\]"),
        ({"starts": []}, r"starts=\[\]"),
    ],
)
def test_bad_assignments(arguments, message):
    da = xr.DataArray(np.ones((6, 1, 1)), dims=("z", "y", "x"), coords={"z": np.arange(6.0)})
    with pytest.raises(InputError, match=message):
        da.octnorm.assign_sections(**arguments)


def test_assignment_needs_a_z_that_measures_and_no_sections_yet():
    da = xr.DataArray(np.ones((4, 1, 1)), dims=("z", "y", "x"))
    with pytest.raises(InputError, match="needs a numeric z coordinate"):
        da.octnorm.assign_sections(thickness=2)
    with pytest.raises(InputError, match="needs z to rise or to fall"):
        da.assign_coords(z=[0, 2, 1, 3]).octnorm.assign_sections(thickness=2)
    with pytest.raises(InputError, match="already has a section coordinate"):
        da.octnorm.assign_sections(n=2).octnorm.assign_sections(n=2)
    with pytest.raises(InputError, match="lacks 'z'"):
        da.rename(z="depth").octnorm.assign_sections(n=2)
