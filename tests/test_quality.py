"""Figures of merit of volumes whose truth is known, their statuses, and what is said of them."""

from __future__ import annotations

import json
import re
import tracemalloc
from functools import cache
from pathlib import Path

import dask.array
import numpy as np
import pytest
import xarray as xr
from conftest import HOLDINGS, brain, cut_brain, no_computing
from test_plan import counted

import xoctnorm
from xoctnorm import InputError, shelf
from xoctnorm.phantom import make_phantom
from xoctnorm.provenance import steps_of
from xoctnorm.qc import DEFINITIONS, FLAGS, LIMITS, Finding, findings
from xoctnorm.qc.limits import STATUSES
from xoctnorm.qc.verdict import limits_text

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SIZE = {"shape": (96, 120), "n_sections": 6, "planes_per_section": 6, "seed": 3}


def phantom(**more) -> xr.Dataset:
    return _phantom(tuple(more.items()))


@cache
def _phantom(more: tuple) -> xr.Dataset:
    return make_phantom(**SIZE | dict(more))


@cache
def measured(flatten: bool = False, drift: str | None = "joint") -> tuple[xr.DataArray, xr.Dataset]:
    """A result, and what is measured of it beside the volume that it was made from."""
    volume = phantom()["volume"]
    result = volume.octnorm.normalize(drift=drift, flatten_depth=flatten)
    return result, result.octnorm.qc(volume)


def gains(ds: xr.Dataset) -> np.ndarray:
    """Gain of every section."""
    return ds["section_gain"].groupby("section").first().to_numpy()


def status(qc: xr.Dataset, name: str) -> str:
    return qc[name].attrs["status"]


def test_drift_is_reported_before_and_within_noise_after():
    _, qc = measured()
    gain = gains(phantom())
    step, error = qc.boundary_step.to_numpy()[:, 1:], qc.boundary_step_se.to_numpy()[:, 1:]
    away = np.log1p(step[0]) - np.diff(np.log(gain))
    assert (np.abs(away) < 4 * error[0]).all()
    assert np.sqrt(np.mean(away**2)) < 0.04
    assert np.sqrt(np.mean(step[0] ** 2)) > 0.1
    assert (np.abs(step[1]) < 4 * error[1]).all()
    assert np.isnan(qc.boundary_step[:, 0]).all()
    assert status(qc, "boundary_step") == "ok"
    before, after = qc.tissue_variation.to_numpy()
    assert before == pytest.approx(gain.std(ddof=1) / gain.mean(), rel=0.15)
    assert after < before / 8
    assert qc.agarose_variation[0] == pytest.approx(gain.std(ddof=1) / gain.mean(), rel=0.1)


def test_the_volume_alone_tells_the_same_as_beside_its_result():
    volume, (result, qc) = phantom()["volume"], measured()
    alone = volume.octnorm.qc(agarose_mask=result.agarose_mask, noise_floor=float(result.noise_floor))
    for name in ("boundary_step", "section_level", "cnr", "snr", "speckle_contrast", "clipped_high"):
        np.testing.assert_array_equal(alone[name], qc[name].sel(stage="before"), err_msg=name)
        assert "stage" not in alone[name].dims
    assert status(alone, "boundary_step") == "error"


def test_a_raw_step_is_no_fault_where_decay_is_kept():
    _, qc = measured()
    assert float(qc.boundary_step_raw.sel(stage="after").mean()) > 0.15
    assert qc.boundary_step_raw.attrs["status"] == ""
    assert status(qc, "boundary_step") == "ok"
    _, flat = measured(flatten=True)
    assert abs(float(flat.boundary_step_raw.sel(stage="after").mean())) < 0.05


def test_slope_in_decibels_per_millimetre():
    _, kept = measured()
    expected = -0.05 * 10 / np.log(10) / 0.01  # 5 % per plane of 10 µm
    np.testing.assert_allclose(kept.residual_slope.sel(tissue=["dark", "bright"]), expected, rtol=0.15)
    np.testing.assert_allclose(kept.residual_decay.sel(tissue="dark"), 5 * expected * 0.01, rtol=0.15)
    assert kept.residual_slope.attrs["units"] == "dB/mm"
    assert status(kept, "residual_decay") == ""
    result, flat = measured(flatten=True)
    factor = np.log(result.depth_gain * result.scale_factor).to_numpy().reshape(6, 6).mean(axis=0)
    of_gain = np.polyfit(np.arange(1, 6), factor[1:], 1)[0]
    before, after = flat.residual_decay.sel(tissue="dark").to_numpy()
    assert after - before == pytest.approx(5 * of_gain * 10 / np.log(10), rel=0.1)  # means are robust
    assert status(flat, "residual_decay") == "ok"
    profile = flat.depth_profile.sel(tissue="dark")
    np.testing.assert_allclose(profile.sel(stage="before"), np.exp(0.05 * (2.5 - np.arange(6))), rtol=0.04)
    np.testing.assert_allclose(profile.sel(stage="after"), 1, atol=0.03)


@pytest.mark.parametrize(
    ("units", "name", "factor"), [("mm", "dB/mm", 1), ("nm", "dB/mm", 1e6), ("furlong", "dB/plane", 10)]
)
def test_slope_follows_the_units_of_z(units, name, factor):
    volume = phantom()["volume"]
    volume = volume.assign_coords(z=volume.z.assign_attrs(units=units))
    slope = volume.octnorm.qc().residual_slope
    assert slope.attrs["units"] == name
    of_mm = phantom()["volume"].octnorm.qc().residual_slope
    np.testing.assert_allclose(slope, of_mm * 1e-3 * factor, rtol=1e-9)


def test_speckle_contrast_is_that_of_the_looks_and_no_gain_changes_it():
    volume = phantom(noise_floor=0.0, looks=9.0)["volume"]
    contrast = volume.octnorm.qc().speckle_contrast
    np.testing.assert_allclose(contrast, 1 / 3, rtol=0.05)
    gain = xr.DataArray(np.linspace(0.5, 2, volume.sizes["z"]), dims="z")
    qc = (volume * gain).octnorm.qc(volume)
    np.testing.assert_allclose(qc.speckle_contrast[1], qc.speckle_contrast[0], rtol=1e-5)
    np.testing.assert_allclose(qc.looks, 1 / qc.speckle_contrast**2)
    assert qc.speckle_change < 1e-5
    assert status(qc, "speckle_change") == "ok"
    less = (volume - 0.03).clip(0).octnorm.qc(volume, intensity="linear")  # as the reference does to agarose
    assert status(less, "speckle_change") in ("warning", "error")
    assert "joint" in less.speckle_change.attrs["advice"]


def test_contrast_does_not_depend_on_scale():
    volume = phantom()["volume"]
    qc = (volume * np.float32(64)).octnorm.qc(volume)
    for name in ("cnr", "gcnr", "cjv", "otsu_separability", "background_drift", "divisor_outlier"):
        before, after = qc[name].to_numpy()
        np.testing.assert_allclose(before, after, rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(qc.otsu_threshold[1], 64 * qc.otsu_threshold[0], rtol=1e-5)


def test_contrast_is_that_of_the_voxels():
    """Of true classes, deep inside which lie those that are found."""
    ds = phantom()
    volume, kind = ds["volume"].to_numpy(), ds["tissue_class"].to_numpy()
    grey, white = volume[kind == 2], volume[kind == 3]
    qc = ds["volume"].octnorm.qc()
    expected = (white.mean() - grey.mean()) / np.sqrt(white.var() + grey.var())
    assert float(qc.cnr.sel(pair="bright and dark")) == pytest.approx(expected, rel=0.1)
    assert float(qc.cjv) == pytest.approx((white.std() + grey.std()) / (white.mean() - grey.mean()), rel=0.1)
    edges = np.geomspace(1e-3, 3, 200)
    shares = [np.histogram(part, edges)[0] / part.size for part in (grey, white)]
    assert float(qc.gcnr.sel(pair="bright and dark")) == pytest.approx(1 - np.minimum(*shares).sum(), abs=0.05)
    assert 0.8 < qc.gcnr.sel(pair="tissue and agarose") < 1


def test_signal_to_noise():
    volume = phantom(section_gain=0.0, plane_jitter=0.0, decay=0.0)["volume"]
    qc = volume.octnorm.qc(noise_floor=0.01)
    np.testing.assert_allclose(qc.snr, 10 * np.log10([6, 20, 40]), atol=0.4)
    assert qc.snr.attrs["units"] == "dB"
    _, both = measured(flatten=True)
    np.testing.assert_allclose(*both.snr.to_numpy(), atol=0.05)  # noise is amplified as signal is
    assert status(volume.octnorm.qc(), "snr") == "unknown"
    assert status(volume.octnorm.qc(noise_floor=0.15), "snr") == "error"


def test_background_and_its_drift():
    ds, (result, qc) = phantom(), measured()
    true = (0.06 * ds["section_gain"] * ds["plane_jitter"] + 0.01).to_numpy()
    np.testing.assert_allclose(qc.background_level.sel(stage="before"), true, rtol=0.03)
    drift = qc.background_drift.to_numpy()
    assert drift[1] < drift[0] / 8
    assert qc.background_level.dims == ("stage", "z")
    np.testing.assert_array_equal(qc.z, result.z)


def test_drift_of_the_background_is_told_in_units_of_tissue():
    gain = (1.0, 1.2, 0.8, 1.1, 0.9, 1.0)
    ds = phantom(section_gain=gain, plane_jitter=0.0, decay=0.0, grey=0.3, white=0.3)
    qc = ds["volume"].octnorm.qc()
    expected = 0.06 * np.std(gain, ddof=1) / (0.3 * np.mean(gain) + 0.01)
    assert float(qc.background_drift) == pytest.approx(expected, rel=0.05)
    assert status(qc, "background_drift") == "warning"


def test_clipped_saturated_and_empty_planes():
    volume = cut_brain()
    volume[3] = 0
    volume[4] = np.nan
    volume[7].to_numpy()[:6] = 4.0  # 6 of 64 rows
    volume[9].to_numpy()[:, :20] = -1
    qc = volume.octnorm.qc(intensity="linear")
    high = qc.clipped_high.to_numpy()
    assert high[7] == pytest.approx(6 / 64)
    assert (np.delete(high, 7) == 0).all()
    assert qc.saturated_planes == pytest.approx(1 / 30)
    assert qc.empty_planes == pytest.approx(2 / 30)
    assert [status(qc, name) for name in ("saturated_planes", "empty_planes")] == ["warning", "warning"]
    low = qc.clipped_low.to_numpy()
    assert np.isnan(low[[3, 4]]).all()
    assert low[9] > 0.01
    assert (np.delete(low, [3, 4, 9]) == 0).all()
    strict = volume.octnorm.qc(intensity="linear", limits={"clipped_high": (0.2, 0.5), "empty_planes": None})
    assert strict.saturated_planes == 0
    assert status(strict, "empty_planes") == ""


def test_integers_saturate():
    volume = phantom(dtype="uint8", plane_jitter=tuple(4.0 if z == 10 else 1.0 for z in range(36)))["volume"]
    qc = volume.octnorm.qc()
    share = (volume == 255).mean(["y", "x"]).to_numpy()
    assert share[10] > 0.1
    np.testing.assert_allclose(qc.clipped_high[share > 0.001], share[share > 0.001])
    assert qc.saturated_planes == pytest.approx((share > 0.01).mean())


def test_a_divisor_that_one_plane_decides():
    volume = phantom(specular_planes=(7,))["volume"]
    qc = volume.octnorm.normalize(drift=None).octnorm.qc()
    assert qc.divisor_outlier > 5
    assert status(qc, "divisor_outlier") == "error"
    assert "divisor_percentile" in qc.divisor_outlier.attrs["advice"]
    assert qc.brightest.argmax("z") == 7
    assert status(volume.octnorm.normalize().octnorm.qc(), "divisor_outlier") == "ok"  # which leaves the plane out
    assert status(volume.octnorm.qc(), "divisor_outlier") == ""


def test_coverage_of_the_mask():
    ds, (result, qc) = phantom(), measured()
    expected = result.agarose_mask.groupby("section").mean(["z", "y", "x"])
    np.testing.assert_allclose(qc.agarose_coverage, expected, atol=1e-12)
    np.testing.assert_allclose(qc.tissue_coverage, 1 - expected, atol=1e-12)
    assert float(qc.agarose_coverage.mean()) == pytest.approx(float(ds["agarose_mask"].mean()), abs=0.03)
    assert qc.mask_agreement > 0.99
    assert qc.mask_agreement.dims == ()


def test_a_mask_that_covers_too_much_or_too_little():
    volume, (result, _) = phantom()["volume"], measured()
    mask = result.agarose_mask.isel(z=slice(None, None, 6)).to_numpy()  # one per section
    narrow = mask & (np.arange(mask.shape[-1]) < 8)
    wide = np.ones_like(mask)
    wide[:, 40:60, 50:70] = False
    for wrong in (wide, narrow):
        qc = volume.octnorm.qc(agarose_mask=wrong)
        assert status(qc, "mask_agreement") == "error"
        assert "border" in qc.mask_agreement.attrs["advice"]
        assert qc.mask_agreement.attrs["judged"] == float(qc.mask_agreement)
    tiny = np.zeros(volume.shape[1:], bool)
    tiny[:13, :8] = True
    covered = volume.octnorm.qc(agarose_mask=tiny)
    np.testing.assert_allclose(covered.agarose_coverage, 13 * 8 / tiny.size)
    assert status(covered, "agarose_coverage") == "warning"
    assert status(volume.octnorm.qc(agarose_mask=~tiny), "tissue_coverage") == "warning"


@pytest.mark.skipif(not DATA.exists(), reason="the real volumes are kept elsewhere")
@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
def test_the_mask_of_the_reference_on_the_real_cortex_is_found_out():
    tifffile = pytest.importorskip("tifffile")
    values = tifffile.imread(DATA / "serial_section_cortex.tif")
    volume = xr.DataArray(values, dims=("z", "y", "x"), coords={"section": ("z", np.arange(30) // 10)})
    result = volume.octnorm.normalize(drift=None)
    assert float(result.agarose_mask.mean()) == pytest.approx(0.66, abs=0.01)
    for before in (volume, None):
        qc = result.octnorm.qc(before)
        assert findings(qc)[0].figure == "mask_agreement"
        assert qc.attrs["status"] == "error"
        assert "mask" in qc.attrs["verdict"]
    right = volume.octnorm.normalize().octnorm.qc()
    assert status(right, "mask_agreement") == "ok"
    assert right.attrs["status"] == "warning"


@cache
def of_cut_brain() -> tuple[xr.DataArray, xr.DataArray, xr.Dataset]:
    volume = cut_brain()
    result = volume.octnorm.normalize()
    return volume, result, result.octnorm.qc(volume)


@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
def test_holdings_have_the_same_figures(holding):
    volume, result, expected = of_cut_brain()
    found = holding(result).octnorm.qc(holding(volume))
    for name in expected.variables:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
    assert {name: v.attrs for name, v in found.items()} == {name: v.attrs for name, v in expected.items()}


def test_reads_are_those_that_the_docstring_tells():
    result = measured()[0]
    raw, of_raw = counted(phantom()["volume"])
    lazy, of_result = counted(result)
    with no_computing():
        lazy.octnorm  # noqa: B018
    lazy.octnorm.qc(raw, intensity="linear")
    assert of_raw.read == 2 * raw.size
    assert of_result.read == result.size
    lazy.octnorm.qc()
    assert of_result.read == 3 * result.size


def of_many_sections(n: int, *, masked: bool) -> xr.DataArray:
    """Sections of two planes, 256 x 256, that are computed when they are read; with the masks of a result."""
    image = np.tile(phantom()["volume"].to_numpy()[:2].mean(axis=0, keepdims=True), (2, 3, 3))[:, :256, :256]

    def section(block_info: dict) -> np.ndarray:
        first = block_info[None]["array-location"][0][0]
        speckle = np.random.default_rng(first).gamma(6, 1 / 6, image.shape)
        return (image * speckle * (1 + 0.1 * np.sin(first))).astype(np.float32)

    chunks = ((2,) * n, (256,), (256,))
    values = dask.array.map_blocks(section, chunks=chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    da = xr.DataArray(values, dims=("z", "y", "x"), coords={"section": ("z", np.arange(2 * n) // 2)})
    mask = dask.array.from_array(image[0] < np.median(image), chunks=-1)
    masks = dask.array.broadcast_to(mask, da.shape, chunks=chunks)
    return da.assign_coords(agarose_mask=(da.dims, masks, {"source": "xoctnorm 0"})) if masked else da


def fit(da: xr.DataArray) -> None:
    da.octnorm.fit(drift="joint", flatten_depth=True, intensity="linear")


def qc(da: xr.DataArray) -> None:
    da.octnorm.qc(intensity="linear")


@pytest.mark.parametrize(
    ("call", "masked"), [(qc, False), (qc, True), (fit, False)], ids=["qc", "qc, mask of planes", "fit"]
)
@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")  # two planes a section tell little
def test_memory_hardly_grows_with_sections(monkeypatch, call, masked):
    monkeypatch.setattr(shelf, "IN_MEMORY", 2**20)
    call(of_many_sections(3, masked=masked))  # compiles
    peaks = []
    for n in (8, 32):
        lazy = of_many_sections(n, masked=masked)
        with dask.config.set(num_workers=1):
            tracemalloc.start()
            try:
                call(lazy)
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    assert peaks[1] - peaks[0] < 20 * 24 * 256 * 256  # bytes for every section and pixel: what five views take


def test_the_input_stays_as_it_was():
    volume, (result, _) = phantom()["volume"], measured()
    was = volume.copy(deep=True), result.copy(deep=True)
    result.octnorm.qc(volume)
    xr.testing.assert_identical(volume, was[0])
    xr.testing.assert_identical(result, was[1])


def test_further_dims_and_a_section_dimension():
    volume = phantom()["volume"]
    both = xr.concat([volume, volume * 2], dim="channel")
    one = volume.octnorm.qc()
    qc = (both * 2).octnorm.qc(both)
    assert qc.boundary_step.dims == ("stage", "channel", "section_label")
    assert qc.agarose_coverage.dims == ("channel", "section_label")
    for channel, stage in ((0, "before"), (1, "before"), (0, "after"), (1, "after")):
        here = qc.sel(stage=stage).isel(channel=channel)
        np.testing.assert_allclose(here.boundary_step, one.boundary_step, atol=1e-6)
    np.testing.assert_allclose(qc.background_level[1, 1], 4 * one.background_level, rtol=1e-5)
    planes = xr.DataArray(
        volume.to_numpy().reshape(6, 6, *volume.shape[1:]),
        dims=("section", "z", "y", "x"),
        coords={"section": list("abcdef")},
    )
    stacked = planes.octnorm.qc()
    assert stacked.background_level.dims == ("section", "z")
    assert stacked.section_label.values.tolist() == list("abcdef")
    np.testing.assert_allclose(stacked.boundary_step, one.boundary_step, atol=1e-6)


@pytest.mark.parametrize("intensity", ["db", "amplitude"])
def test_other_scales_have_the_figures_of_linear_intensity(intensity):
    linear = phantom()["volume"].octnorm.qc()
    other = phantom(intensity=intensity)["volume"].octnorm.qc()
    np.testing.assert_allclose(other.boundary_step, linear.boundary_step, atol=2e-3)
    np.testing.assert_allclose(other.speckle_contrast, linear.speckle_contrast, rtol=1e-3)


def test_one_section_tells_no_steps():
    volume = phantom(n_sections=1)["volume"]
    qc = volume.octnorm.qc()
    assert {status(qc, name) for name in ("boundary_step", "left_out_error", "tissue_variation")} == {"unknown"}
    assert qc.attrs["status"] == "ok"
    assert "can't be judged" in qc.attrs["verdict"]


def test_lost_sections_leave_a_gap():
    ds = phantom(missing_sections=(2,), n_sections=7)
    qc = ds["volume"].octnorm.qc()
    assert qc.section_label.values.tolist() == [0, 1, 3, 4, 5, 6]
    assert np.isnan(qc.boundary_step.sel(section_label=3))
    assert np.isfinite(qc.boundary_step.sel(section_label=[1, 4, 5, 6])).all()


@pytest.mark.filterwarnings("ignore::xoctnorm.OctnormWarning")
def test_factors_at_their_clamp_warnings_and_flags():
    volume = phantom(agarose_steps=0.3)["volume"]
    clamped = volume.octnorm.normalize(drift="scale", smooth_sigma=0, min_scale=0.99, max_scale=1.01)
    qc = clamped.octnorm.qc()
    at_clamp = np.isin(clamped.scale_factor, np.float32([0.99, 1.01]))
    assert at_clamp.any()
    assert qc.clamped_factors == pytest.approx(at_clamp.mean())
    assert status(qc, "clamped_factors") in ("warning", "error")

    correction = volume.octnorm.fit()
    result = volume.octnorm.apply(correction)
    qc = result.octnorm.qc(correction=correction)
    warned = steps_of(result.attrs)[-1]["warnings"]
    assert qc.recorded_warnings == len(warned) > 0
    of_record = [finding for finding in findings(qc) if finding.figure == "recorded_warnings"]
    assert [finding.message.partition(": ")[2] for finding in of_record] == warned
    flagged = [finding for finding in findings(qc) if finding.figure == "flagged_sections"]
    assert {f"({flag})" for flags in correction.section_flags.values for flag in flags.split()} == {
        finding.message.rpartition(" ")[2] for finding in flagged
    }
    assert all(finding.advice for finding in flagged)
    assert {finding.status for finding in flagged} == {"warning"}  # what was dealt with makes no result wrong
    assert qc.unmeasured_sections == 0
    assert qc.section_flags.values.tolist() == correction.section_flags.values.tolist()


def test_sections_whose_gain_nothing_tells():
    volume = phantom()["volume"]
    correction = volume.octnorm.fit()
    bridged = correction.copy(deep=True)
    n = bridged.sizes["section_label"]
    bridged["section_flags"] = ("section_label", ["bridged"] * (n - 1) + [""])
    for one, share, expected in ((correction, 0, "ok"), (bridged, (n - 1) / n, "error")):
        qc = volume.octnorm.apply(one).octnorm.qc(correction=one)
        assert qc.unmeasured_sections == pytest.approx(share)
        assert status(qc, "unmeasured_sections") == expected


def test_every_flag_has_a_meaning():
    """Flags that the code gives, found in its text."""
    folder = Path(xoctnorm.__file__).parent / "corrections"
    text = "".join((folder / name).read_text() for name in ("drift_tables.py", "lateral.py", "tissue_drift.py"))
    given = {flag for flag in FLAGS if f'"{flag}"' in text}
    assert given == set(FLAGS)
    assert set(re.findall(r'append\("(\w+)"\)', text)) <= set(FLAGS)


def test_everything_is_described(tmp_path):
    _, qc = measured(flatten=True)
    assert set(qc.data_vars) <= set(DEFINITIONS)
    assert set(LIMITS) <= set(DEFINITIONS)
    for name, figure in qc.data_vars.items():
        attrs = figure.attrs
        assert attrs["long_name"], name
        assert attrs["comment"].endswith("."), name
        assert attrs["status"] in STATUSES, name
        assert attrs["units"], name
        assert bool(attrs["limits"]) == bool(attrs["status"]), name
        assert bool(attrs["advice"]) == (attrs["status"] in ("warning", "error")), name
    assert qc.attrs["status"] == "ok"
    assert qc.attrs["verdict"].endswith(".")
    limits = json.loads(qc.attrs["limits"])
    assert limits["boundary_step"] == [0.02, 0.06]
    assert steps_of(qc.attrs)[-1]["method"] == "qc"
    assert "qc(limits={}" in qc.attrs["history"]
    qc.to_netcdf(tmp_path / "qc.nc")
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "qc.nc"), qc)


def test_findings_come_worst_first_also_from_a_file(tmp_path):
    _, qc = measured(drift=None)
    found = findings(qc)
    assert isinstance(found[0], Finding)
    order = [finding.status for finding in found]
    assert order == sorted(order)  # "error" before "warning"
    assert set(order) == {"error", "warning"}
    assert found[0].message in qc.attrs["verdict"]
    assert qc.attrs["verdict"].startswith(f"{order.count('error')} errors and {order.count('warning')} warning")
    qc.to_netcdf(tmp_path / "qc.nc")
    assert findings(xr.load_dataset(tmp_path / "qc.nc")) == found


def test_limits_are_settable():
    result, qc = measured()
    value = qc.tissue_variation.attrs["judged"]
    for pair, expected in (((value / 2, value * 2), "warning"), ((value / 4, value / 2), "error"), (None, "")):
        again = result.octnorm.qc(phantom()["volume"], limits={"tissue_variation": pair})
        assert status(again, "tissue_variation") == expected
    least = result.octnorm.qc(limits={"mask_agreement": (1.5, 1.2)})
    assert status(least, "mask_agreement") == "error"
    assert "below" in least.mask_agreement.attrs["limits"]


def test_all_that_is_wrong_is_told_at_once():
    result = measured()[0]
    with pytest.raises(InputError) as told:
        result.octnorm.qc(
            result[:3],
            limits={"step": (1, 2), "cjv": 3, "snr": (1, 4), "boundary_step": (0.3, 0.2), "gcnr": ("a", 1)},
            intensity="log",
            noise_floor=-1,
        )
    text = str(told.value)
    assert len(told.value.problems) == 8
    for part in ("'step'", "there are agarose_coverage", "['cjv']=3", "'snr'", "(0.3, 0.2)", "'log'", "-1", "z: 3"):
        assert part in text
    with pytest.raises(InputError, match="needs a DataArray"):
        result.octnorm.qc(3)
    with pytest.raises(InputError, match="noise_floor=True"):
        result.octnorm.qc(noise_floor=True)
    with pytest.raises(InputError, match="without a record"):
        result.octnorm.qc(correction="correction")
    with pytest.raises(InputError, match="applies to volumes with the same planes"):
        result[:12].octnorm.qc(correction=phantom()["volume"].octnorm.fit())
    with pytest.raises(InputError, match="needs a dict"):
        result.octnorm.qc(limits=[1])


def test_depths_are_those_of_the_coordinate():
    ds = phantom()
    volume = ds["volume"].assign_coords(depth=ds["depth"] * 10.0)
    np.testing.assert_array_equal(volume.octnorm.qc().boundary_step, ds["volume"].octnorm.qc().boundary_step)
    with pytest.raises(InputError, match="has to start anew at every cut"):
        ds["volume"].assign_coords(depth=("z", np.arange(36.0))).octnorm.qc()
    with pytest.raises(InputError, match="finite numbers"):
        ds["volume"].assign_coords(depth=("z", np.full(36, np.nan))).octnorm.qc()


def test_repr_tells_what_the_volume_is_without_computing(tmp_path):
    result = measured(flatten=True)[0]
    lazy = HOLDINGS["planes"](result).assign_attrs(units="<b>1</b>")
    with no_computing():
        text, page = repr(lazy.octnorm), lazy.octnorm._repr_html_()
    assert "6 of 6 planes: 0, 1, 2, 3, 4, 5" in text
    assert "z 36 × y 96 × x 120" in text
    assert "a mask is attached, along z, y, x" in text
    assert "scale_factor, depth_gain" in text
    assert "normalize(flatten_depth=True)" in text
    assert "<b>" not in page
    assert "&lt;b&gt;1" in page
    raw = repr(brain().drop_vars("section").octnorm)
    assert "one section" in raw
    assert "no mask is attached" in raw
    assert "nothing is recorded" in raw
    assert "no dim z" in repr(xr.DataArray(np.zeros(3)).octnorm)
    odd = brain().assign_coords(section=("z", np.arange(20) % 2))
    assert "come back" in repr(odd.octnorm)
    named = brain().rename(section="slab").octnorm.normalize(drift=None, agarose_mask="otsu", section="slab")
    assert repr(brain().octnorm).splitlines()[3] == repr(named.octnorm).splitlines()[3]


def test_a_correction_says_what_it_is():
    volume = cut_brain()
    correction = volume.octnorm.fit()
    assert correction.attrs["title"] == (
        "correction of intensities (border mask, linearize, tissue drift, unit scale) for 6 sections of intensity"
    )
    assert "title" not in volume.octnorm.normalize().attrs
    assert "title" not in volume.octnorm.scale_factors().attrs


def test_the_page_has_every_definition_and_limit():
    page = (Path(__file__).parents[1] / "docs" / "quality.md").read_text(encoding="utf-8")
    for name, definition in DEFINITIONS.items():
        (row,) = re.findall(rf"^\| `{name}` \| .* \|.*\|.*\|$", page, re.MULTILINE)
        assert definition.comment in row, name
        assert name not in LIMITS or f"| {limits_text(LIMITS[name], definition)} |" in row, name
        assert name not in LIMITS or f"| `{name}` | {definition.advice} |" in page, name
    for flag, (meaning, advice) in FLAGS.items():
        assert f"| `{flag}` | {meaning} | {advice} |" in page


def test_before_is_at_the_same_places():
    volume = make_phantom(n_sections=4, planes_per_section=4, shape=(48, 64), seed=1)["volume"]
    with pytest.raises(InputError, match="before: its z coordinate is another"):
        volume.octnorm.qc(volume.isel(z=slice(None, None, -1)))


def test_sections_are_those_of_the_record():
    volume = make_phantom(n_sections=6, planes_per_section=6)["volume"].rename(section="slab")
    result = volume.octnorm.normalize(section="slab")
    xr.testing.assert_identical(
        result.octnorm.qc(volume).boundary_step, result.octnorm.qc(volume, section="slab").boundary_step
    )
    assert result.octnorm.qc(volume).sizes["section_label"] == 6


def test_a_record_that_lacks_its_steps_is_none():
    volume = make_phantom(n_sections=4, planes_per_section=4, shape=(48, 64), seed=1)["volume"]
    told = repr(volume.octnorm)
    volume.attrs["xoctnorm_provenance"] = '{"schema_version": 1, "steps": [{}]}'
    assert repr(volume.octnorm) == told


def test_infinite_voxels_are_refused_as_by_fit():
    volume = make_phantom(n_sections=4, planes_per_section=4, shape=(48, 64), seed=1)["volume"].copy(deep=True)
    volume[{"z": 2, "y": 3, "x": 4}] = np.inf
    with pytest.raises(InputError, match="infinite voxels on plane 2: replace"):
        volume.octnorm.qc()
