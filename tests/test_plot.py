"""Pictures: that they show the numbers, how they are labelled, and what they read."""

from __future__ import annotations

import sys
from functools import cache

import numpy as np
import pytest
import xarray as xr
from conftest import brain, cut_brain
from xarray.backends import BackendArray
from xarray.core import indexing

from xoctnorm import InputError
from xoctnorm.plot import reads
from xoctnorm.plot.scalebar import round_length
from xoctnorm.plot.series import series_of

matplotlib = pytest.importorskip("matplotlib")
matplotlib.use("agg")
plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def closed():
    before = dict(matplotlib.rcParams)
    yield
    plt.close("all")
    assert dict(matplotlib.rcParams) == before


@cache
def _fitted(drift, **more):
    volume = cut_brain()
    correction = volume.octnorm.fit(drift=drift, **more)
    return volume, correction, volume.octnorm.apply(correction)


class Counting(BackendArray):
    """Values as in a file, which count how many are read, how often, and the most at once."""

    def __init__(self, values):
        self._values, self.shape, self.dtype = values, values.shape, values.dtype
        self.reads = []

    def __getitem__(self, key):
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._part)

    def _part(self, key):
        part = self._values[np.ix_(*(np.atleast_1d(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True)))]
        part = part.reshape(
            [len(np.arange(n)[k]) for n, k in zip(self.shape, key, strict=True) if np.ndim(np.arange(n)[k])]
        )
        self.reads.append(part.size)
        return part


def counted(volume, *, chunks=None):
    """The volume as from a file that counts, opened lazily, with or without chunks."""
    array = Counting(volume.to_numpy())
    variable = xr.Variable(volume.dims, indexing.LazilyIndexedArray(array), volume.attrs)
    lazy = xr.DataArray(variable, volume.coords, name=volume.name)
    return (lazy if chunks is None else lazy.chunk(chunks)), array


def of_line(artists):
    return np.asarray(artists[0].get_ydata(), float)


def test_drift_by_scale_shows_metric_factor_and_clamps():
    volume, correction, result = _fitted("scale", smooth_sigma=1.0)
    drawn = volume.octnorm.plot.drift(correction=correction)
    usual = np.median(correction["metric"])
    np.testing.assert_allclose(of_line(drawn["metric"]), correction["metric"] / usual)
    np.testing.assert_allclose(of_line(drawn["smoothed"]), correction["smoothed_metric"] / usual)
    np.testing.assert_array_equal(of_line(drawn["factor"]), correction["scale_factor"])
    np.testing.assert_array_equal([line.get_ydata()[0] for line in drawn["clamps"]], [0.5, 2])
    attached = result.octnorm.plot.drift()  # without the tables
    np.testing.assert_array_equal(of_line(attached["factor"]), correction["scale_factor"])
    assert "metric" not in attached


def test_drift_by_the_model_shows_gains_errors_and_flags():
    volume, correction, _ = _fitted("joint")
    marked = correction.assign(section_flags=correction["section_flags"].astype("U20"))
    marked["section_flags"][2] = "bridged everywhere"
    marked["section_flags"][[0, 1, 3, 4, 5]] = "everywhere"
    drawn = volume.octnorm.plot.drift(correction=marked)
    points, _, (bars,) = drawn["gain"].lines
    np.testing.assert_array_equal(points.get_ydata(), correction["section_gain"])
    reach = [np.ptp(segment[:, 1]) for segment in bars.get_segments()]
    np.testing.assert_allclose(reach, 4 * correction["section_gain_se"], rtol=1e-9)
    middles = volume["z"].groupby("section").mean().to_numpy()
    np.testing.assert_array_equal(points.get_xdata(), middles)
    np.testing.assert_array_equal(drawn["flag bridged"][0].get_xdata(), middles[[2]])
    assert "flag everywhere" not in drawn


def test_sections_are_shaded_and_labelled():
    volume, correction, _ = _fitted("joint")
    axes = volume.octnorm.plot.drift(correction=correction)["factor"][0].axes
    above = axes.child_axes[0]
    assert [tick.get_text() for tick in above.get_xticklabels()] == ["0", "1", "2", "3", "4", "5"]
    edges = np.append(volume["z"].to_numpy().reshape(6, 5)[:, 0] - 5, 295)
    shown = volume.octnorm.plot.drift(correction=correction)["sections"]
    np.testing.assert_allclose([[s.get_x(), s.get_x() + s.get_width()] for s in shown], edges[1:].reshape(3, 2))
    assert axes.get_xlabel() == "position through the sections (µm)"


@pytest.mark.parametrize(("drift", "table"), [("quantile", "quantile_target"), ("histogram", "matched_intensity")])
def test_drift_by_maps_shows_their_factors(drift, table):
    volume, correction, _ = _fitted(drift)
    drawn = volume.octnorm.plot.drift(correction=correction)
    middle = drawn["map"].lines[0].get_ydata()
    if drift == "quantile":
        factor = correction["quantile_target"] / correction["quantile_source"]
        np.testing.assert_allclose(middle, factor.median("quantile"))
    else:
        kept = correction["bin_center"].to_numpy() > 0.02
        factor = (correction[table] / correction["bin_center"]).transpose("section_label", "bin").to_numpy()
        np.testing.assert_allclose(middle, np.nanmedian(factor[:, kept], axis=1))


def test_a_section_that_is_left_alone_changes_no_other_factor():
    volume = cut_brain()
    correction = volume.octnorm.fit(drift="quantile")
    source, target = (correction[name].copy() for name in ("quantile_source", "quantile_target"))
    source[1, : source.shape[1] // 2] = 0  # of which there is no factor
    shown = []
    for alone in (False, True):
        if alone:
            source[4], target[4] = np.nan, np.nan
        edited = correction.assign(quantile_source=source, quantile_target=target)
        bars = volume.octnorm.plot.drift(correction=edited)["map"].lines[2][0]
        shown.append(np.array([bar[:, 1] for bar in bars.get_segments()]))
    np.testing.assert_array_equal(shown[0][:4], shown[1][:4])
    np.testing.assert_array_equal(shown[1][4], [1, 1])


def test_thresholds_of_the_reference():
    _, correction, result = _fitted("scale", smooth_sigma=1.0)
    drawn = result.octnorm.plot.thresholds()
    np.testing.assert_array_equal(of_line(drawn["floor"]), correction["background_threshold"])
    np.testing.assert_array_equal(of_line(drawn["ceiling"]), correction["clip_threshold"])
    np.testing.assert_allclose(of_line(drawn["otsu"]), float(correction["otsu_threshold"]))
    assert drawn["floor"][0].axes.get_ylabel() == "intensity (counts)"


def test_thresholds_of_the_model_are_what_becomes_0_and_1():
    volume, correction, _ = _fitted("joint", flatten_depth=True)
    drawn = volume.octnorm.plot.thresholds(correction=correction)
    for name, value in {"floor": 0, "ceiling": 1}.items():
        level = of_line(drawn[name])[:, None, None].astype(np.float32)
        flat = volume.copy(data=np.broadcast_to(level, volume.shape).copy())
        np.testing.assert_allclose(flat.octnorm.apply(correction), value, atol=1e-6)


def test_mask_shows_mean_outline_and_share():
    volume = brain()
    agarose = np.zeros((4, 24, 30), bool)
    agarose[:, :12] = True
    agarose[0, :18] = True  # in one section of four
    drawn = volume.octnorm.plot.mask(agarose_mask=agarose)
    np.testing.assert_allclose(drawn["image"].get_array(), volume.mean("z"), rtol=1e-6)
    (outline,) = drawn["outline"].get_paths()
    np.testing.assert_allclose(outline.vertices[:, 1], np.interp(0.5, [0.25, 1], [12, 11]) * 2)
    assert drawn["widest"].levels[0] < 0.25
    assert drawn["image"].axes.get_title(loc="left") == "agarose mask: 56% of all pixels"
    colour_bar = drawn["colorbar"].axes
    assert colour_bar.get_ylabel() == "mean OCT intensity (counts)"


def test_profile_is_the_mean_over_tissue():
    volume, correction, result = _fitted("joint")
    masks = correction["agarose_mask"].isel(section_label=correction["section_index"])
    expected = result.where(~masks & (result != 0)).mean(["y", "x"])
    drawn = result.octnorm.plot.zprofile()
    np.testing.assert_allclose(of_line(drawn["mean"]), expected, rtol=1e-5)
    assert drawn["mean"][0].axes.get_ylabel() == "mean OCT intensity"
    compared = result.octnorm.plot.zprofile(before=volume)
    np.testing.assert_allclose(of_line(compared["mean"]), expected / expected.mean(), rtol=1e-5)
    before = volume.where(~masks).mean(["y", "x"])
    np.testing.assert_allclose(of_line(compared["before"]), before / before.mean(), rtol=1e-5)


def test_what_is_read_is_the_same_for_any_chunks(holding):
    volume, correction, _ = _fitted("joint")
    one, other = (series_of("", held, correction) for held in (volume, holding(volume)))
    for look in (reads.tissue_means, reads.mean_projection, reads.share_of_planes):
        np.testing.assert_array_equal(look(one), look(other), strict=True)
    cuts = [reads.three_cuts(series, reads.middle_of_tissue(series)) for series in (one, other)]
    for name in ("at", "plane", "along_x", "along_y"):
        np.testing.assert_array_equal(*(getattr(found, name) for found in cuts))
    samples = [reads.tissue_samples(series) for series in (one, other)]
    for row in range(6):
        np.testing.assert_array_equal(samples[0][row], samples[1][row])


def test_histograms_are_densities_of_sections():
    volume, correction, result = _fitted("joint")
    drawn = result.octnorm.plot.histograms(before=volume)
    for stage in ("before", "after"):
        assert len(drawn[f"{stage} sections"]) == 6
        line = drawn[f"{stage} reference"][0]
        share = np.trapezoid(line.get_ydata(), line.get_xdata())
        assert 0.97 < share < 1
        mean = np.mean([one.get_ydata() for one in drawn[f"{stage} sections"]], axis=0)
        np.testing.assert_allclose(line.get_ydata(), mean)
    gains = [np.ptp([one.get_ydata().argmax() for one in drawn[f"{stage} sections"]]) for stage in ("before", "after")]
    assert gains[1] < gains[0]  # sections come together
    assert correction.sizes["section_label"] == 6


def test_overview_reads_three_cuts_and_nothing_else():
    lazy, array = counted(cut_brain())
    lazy.octnorm.plot.overview()
    assert sorted(filter(None, array.reads)) == [30 * 64, 30 * 80, 64 * 80]


def test_overview_shows_the_cuts_and_marks_sections():
    volume = cut_brain()
    drawn = volume.octnorm.plot.overview(z=7, y=20, x=33)
    np.testing.assert_array_equal(drawn["plane"].get_array(), volume[7])
    np.testing.assert_array_equal(drawn["along_x"].get_array(), volume[:, 20])
    np.testing.assert_array_equal(drawn["along_y"].get_array(), volume[:, :, 33])
    limits = [drawn[name].get_clim() for name in ("plane", "along_x", "along_y")]
    assert len(set(limits)) == 1  # one scale
    np.testing.assert_allclose(drawn["cuts"][0][0].get_ydata(), [45, 95, 145, 195, 245])
    bar, text = drawn["scale_bar"]
    assert text.get_text() == "200 µm"
    left, right = drawn["plane"].axes.get_xlim()
    assert np.ptp(bar.get_xdata()) * (right - left) == pytest.approx(200)


@pytest.mark.parametrize(("most", "length"), [(1, 1), (0.99, 0.5), (480, 200), (500, 500), (7e3, 5e3), (0.03, 0.02)])
def test_scale_bars_are_round(most, length):
    assert round_length(most) == pytest.approx(length)


@pytest.mark.parametrize(
    ("picture", "most"), [("mask", 1), ("zprofile", 1), ("histograms", 1), ("thresholds", 0), ("drift", 0)]
)
def test_volumes_are_read_once_and_in_pieces(picture, most):
    volume, correction, _ = _fitted("joint")
    lazy, array = counted(volume, chunks={"z": 2})
    getattr(lazy.octnorm.plot, picture)(correction=correction)
    assert sum(array.reads) <= most * volume.size
    assert max(array.reads, default=0) <= volume.size / 15  # a chunk
    assert lazy.chunks is not None


def test_histograms_read_four_planes_of_each_section():
    lazy, array = counted(brain(n_sections=3, planes=9))
    lazy.octnorm.plot.histograms()
    assert sum(array.reads) == 3 * 4 * 24 * 30


def test_a_file_that_is_opened_lazily_is_not_loaded():
    volume, correction, _ = _fitted("joint")
    lazy, array = counted(volume)
    lazy.octnorm.plot.zprofile(correction=correction)
    lazy.octnorm.plot.zprofile(correction=correction)
    assert sum(array.reads) == 2 * volume.size  # nothing stayed in the volume of the user


def test_results_with_masks_of_planes():
    volume = cut_brain()
    mask = (volume["y"] < 20.0 * (15 + volume["z"] / 10 % 7)) & (volume["x"] >= 0)
    for one in (volume, volume.chunk(z=4, y=30)):
        result = one.octnorm.normalize(agarose_mask=mask, drift=None)
        drawn = result.octnorm.plot.mask()
        assert drawn["image"].axes.get_title(loc="left") == f"agarose mask: {float(mask.mean()):.0%} of all pixels"


def test_section_dimension_and_further_dims():
    volume = cut_brain()
    values = volume.to_numpy().reshape(6, 5, 64, 80)
    folded = xr.DataArray(values, dims=("section", "z", "y", "x"), name="intensity").expand_dims(channel=["a"])
    correction = folded.octnorm.fit()
    drawn = folded.octnorm.plot.drift(correction=correction)
    np.testing.assert_array_equal(of_line(drawn["factor"]), correction["scale_factor"].to_numpy().ravel())
    assert drawn["factor"][0].axes.get_xlabel() == "plane"
    np.testing.assert_array_equal(
        of_line(folded.octnorm.plot.histograms(correction=correction)["reference"]),
        of_line(volume.octnorm.plot.histograms(correction=volume.octnorm.fit())["reference"]),
    )
    shown = folded.octnorm.plot.overview(z=7)
    np.testing.assert_array_equal(shown["plane"].get_array(), values[1, 2])
    two = xr.concat([folded, folded.assign_coords(channel=["b"])], "channel")
    with pytest.raises(InputError, match=r"has 2 along channel.*da.isel\(channel=0\)"):
        two.octnorm.plot.overview()


def test_what_is_attached_along_a_further_dim_is_shown():
    volume = cut_brain()
    channel = volume.expand_dims("channel")
    alone, beside = volume.octnorm.normalize(), channel.octnorm.normalize()
    assert beside["noise_floor"].dims == ("channel",)
    assert sorted(beside.octnorm.plot.thresholds()) == sorted(alone.octnorm.plot.thresholds())
    series = series_of("plot", beside)
    assert float(series.volume["divisor"]) == float(alone["divisor"])


def test_sections_of_another_name_have_masks_of_their_own():
    volume = cut_brain().rename(section="slab")
    mask = np.zeros((6, 64, 80), bool)
    mask[:3, :, :20] = True
    mask[3:, :, :30] = True
    labelled = xr.DataArray(mask, dims=("slab", "y", "x"), coords={"slab": np.arange(6)})
    result = volume.octnorm.normalize(section="slab", drift=None, agarose_mask=labelled)
    drawn = result.octnorm.plot.mask(agarose_mask=labelled)
    assert drawn["image"].axes.get_title(loc="left") == f"agarose mask: {mask.mean():.0%} of all pixels"


def test_the_share_of_agarose_is_named_by_what_it_is_a_share_of():
    volume = cut_brain()
    volume[:, :, :16] = np.nan  # a fifth of the image
    mask = np.zeros((64, 80), bool)
    mask[:, :32] = True
    title = volume.octnorm.plot.mask(agarose_mask=mask)["image"].axes.get_title(loc="left")
    assert title == "agarose mask: 40% of all pixels"
    coverage = volume.octnorm.qc(agarose_mask=mask).agarose_coverage
    np.testing.assert_allclose(coverage, 0.25)
    assert coverage.attrs["long_name"] == "share of the field that is agarose"


def test_a_mask_of_one_row_has_no_outline():
    drawn = cut_brain()[:, :1].octnorm.plot.mask(agarose_mask=np.arange(80)[None] < 20)
    assert sorted(drawn) == ["colorbar", "image"]


def test_a_scale_bar_is_in_pixels_where_the_coordinate_tells_no_places():
    volume = cut_brain()
    volume = volume.assign_coords(x=("x", np.zeros(volume.sizes["x"]), {"units": "um"}))
    assert volume.octnorm.plot.overview()["scale_bar"][1].get_text() == "20 pixels"


def test_own_axes_are_used():
    volume, correction, result = _fitted("joint")
    _, axes = plt.subplots(3, 2)
    assert volume.octnorm.plot.drift(correction=correction, ax=axes[0, 0])["factor"][0].axes is axes[0, 0]
    drawn = result.octnorm.plot.overview(before=volume, ax=axes)
    assert drawn["after along_y"].axes is axes[2, 1]
    assert plt.get_fignums() == [1]
    drawn = result.octnorm.plot.zprofile(figsize=(5, 2))
    assert drawn["mean"][0].figure.get_size_inches().tolist() == [5, 2]


def test_what_is_wrong_is_said():
    volume, correction, result = _fitted("joint")
    _, axes = plt.subplots(2)
    with pytest.raises(InputError, match=r"ax= has 2 axes: this picture needs 1"):
        volume.octnorm.plot.drift(correction=correction, ax=axes)
    with pytest.raises(InputError, match="leave it out where ax= is given"):
        volume.octnorm.plot.drift(correction=correction, ax=axes[0], figsize=(3, 3))
    for picture, message in {
        "mask": "no agarose mask is known",
        "thresholds": "no thresholds are known",
        "drift": "no correction of drift is known",
    }.items():
        with pytest.raises(InputError, match=message):
            getattr(volume.octnorm.plot, picture)()
    with pytest.raises(InputError, match="before has other planes than the volume: z has 29 instead of 30"):
        result.octnorm.plot.zprofile(before=volume[1:])
    with pytest.raises(InputError, match="the correction is for 30 planes along z, the volume has 29"):
        volume[1:].octnorm.plot.drift(correction=correction)
    with pytest.raises(InputError, match="z=30: needs the number of a plane from 0 to 29"):
        volume.octnorm.plot.overview(z=30)
    with pytest.raises(InputError, match="no section has 100 voxels of tissue"):
        volume.octnorm.plot.histograms(agarose_mask=np.ones((64, 80), bool))
    with pytest.raises(InputError, match="lacks 'z'"):
        volume[0].octnorm.plot.overview()


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    volume, correction, _ = _fitted("joint")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"plot.drift needs matplotlib.*pip install 'xoctnorm\[plot\]'"):
        volume.octnorm.plot.drift(correction=correction)


def test_text_of_users_is_shown_as_it_is(tmp_path):
    volume = cut_brain()
    odd = volume.assign_coords(section=("z", np.repeat([f"$a_{i} <b>\n" for i in range(6)], 5)))
    odd = odd.assign_attrs(long_name="$\\frac{ <i>", units="$\\x{ $")
    drawn = odd.octnorm.plot.overview(before=odd)
    assert drawn["after plane"].get_array().shape == (64, 80)
    odd.octnorm.plot.zprofile()["mean"][0].figure.savefig(tmp_path / "odd.png", dpi=60)
    drawn["after cuts"][0][0].figure.savefig(tmp_path / "cuts.png", dpi=60)
    thresholds = odd.octnorm.normalize(drift=None, section="z").octnorm.plot.thresholds()
    thresholds["floor"][0].figure.savefig(tmp_path / "thresholds.png", dpi=60)


def test_dark_ground_gets_brighter_colours():
    volume, correction, _ = _fitted("joint")
    bright = volume.octnorm.plot.drift(correction=correction)["factor"][0].get_color()
    with plt.style.context("dark_background"):
        dark = volume.octnorm.plot.drift(correction=correction)["factor"][0].get_color()
    brightness = [sum(matplotlib.colors.to_rgb(one)) for one in (bright, dark)]
    assert brightness[0] < brightness[1]
