"""Figures of merit and reports of volumes on a device that acts like CuPy: those of the host, and what crosses."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from conftest import cut_brain
from strict_array import counted
from test_device import HOLDINGS, MODEL, SUMS

from xoctnorm.kernels.compiled_quality import BINS

PIXELS = 64 * 80
PLANES = 30
PAIRS = {"alone": (True, None), "both": (True, True), "volume": (True, False), "before": (False, True)}


@cache
def volumes() -> tuple[xr.DataArray, xr.DataArray]:
    """A result, and the volume that it was made from."""
    volume = cut_brain()
    return volume.octnorm.normalize(), volume


def held(holding, there: bool, volume: xr.DataArray) -> xr.DataArray:
    return holding(volume) if there else volume


def same_figures(found: xr.Dataset, expected: xr.Dataset) -> None:
    assert set(found) == set(expected)
    assert found.attrs["status"] == expected.attrs["status"]
    for name, figure in expected.items():
        if figure.dtype.kind != "f":
            np.testing.assert_array_equal(found[name], figure)
        else:
            np.testing.assert_allclose(found[name], figure, rtol=1e-9, err_msg=str(name))
    for name in ("clipped_high", "clipped_low", "brightest", "gcnr"):  # counts and percentiles
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("holding", HOLDINGS.values(), ids=HOLDINGS)
def test_figures_are_those_of_the_host(holding, pair):
    (result, volume), (there, there_before) = volumes(), PAIRS[pair]
    before = None if there_before is None else held(holding, there_before, volume)
    expected = result.octnorm.qc(None if before is None else volume)
    with counted() as transfers:
        found = held(holding, there, result).octnorm.qc(before)
    same_figures(found, expected)
    stages = there + bool(there_before)
    # Classes come from images of sections: of the volume before, where there is one.
    model = MODEL if pair != "volume" else 0
    assert sum(transfers.to_host) <= stages * (PLANES * (SUMS + 50) + 3 * BINS + PIXELS) + model * PIXELS
    assert max(transfers.to_host) <= 5 * PIXELS  # of one section


def test_large_planes_cross_coarse_only(monkeypatch):
    monkeypatch.setattr("xoctnorm.kernels.coarse._MOST_PIXELS", PIXELS // 4)
    volume = volumes()[1]
    expected = volume.octnorm.qc()
    with counted() as transfers:
        found = HOLDINGS["array"](volume).octnorm.qc()
    same_figures(found, expected)
    assert sum(transfers.to_host) <= PLANES * (SUMS + 50) + 3 * BINS + (MODEL + 1) * PIXELS / 4
    assert max(transfers.to_host) <= max(5 * PIXELS / 4, 3 * BINS)


def test_a_plane_without_data_and_one_of_infinity():
    volume = volumes()[1].copy(deep=True)
    volume[3] = np.nan
    volume[7] = 0
    volume[11, :20] = np.nan
    same_figures(HOLDINGS["array"](volume).octnorm.qc(), volume.octnorm.qc())
    volume[9, 30, 30] = np.inf
    with pytest.raises(ValueError, match="infinite voxels on plane 9"):
        HOLDINGS["array"](volume).octnorm.qc()


def without_time(path: Path) -> str:
    return re.sub(r"\d{4}-\d\d-\d\dT[\d:]+Z", "", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("holding", HOLDINGS.values(), ids=HOLDINGS)
def test_reports_are_those_of_the_host(tmp_path, holding, pair):
    for needed in ("matplotlib", "jinja2", "PIL"):
        pytest.importorskip(needed)
    (result, volume), (there, there_before) = volumes(), PAIRS[pair]
    before = None if there_before is None else held(holding, there_before, volume)
    figures = result.octnorm.qc(None if before is None else volume)
    result.octnorm.report(tmp_path / "host.html", before=None if before is None else volume, qc=figures)
    with counted() as transfers:
        held(holding, there, result).octnorm.report(tmp_path / "device.html", before=before, qc=figures)
    assert without_time(tmp_path / "device.html") == without_time(tmp_path / "host.html")
    shown = PLANES + 2  # planes of this size are shown as they are; one of the cuts, and the mean
    samples = 6 * 4 * PIXELS  # of four planes of each section, below 8192 values
    stages = there + bool(there_before)
    assert sum(transfers.to_host) <= stages * (shown * PIXELS + samples + PLANES * (64 + 80 + 10))


def test_planes_are_shown_coarse(tmp_path, monkeypatch):
    for needed in ("matplotlib", "jinja2", "PIL"):
        pytest.importorskip(needed)
    monkeypatch.setattr("xoctnorm.report.reading._SIDES", ((10**9, 20),))
    monkeypatch.setattr("xoctnorm.plot.reads._MOST_SAMPLES", 200)
    result = volumes()[0]
    figures = result.octnorm.qc()
    result.octnorm.report(tmp_path / "host.html", qc=figures)
    with counted() as transfers:
        HOLDINGS["array"](result).octnorm.report(tmp_path / "device.html", qc=figures)
    assert without_time(tmp_path / "device.html") == without_time(tmp_path / "host.html")
    assert transfers.to_host.count(PIXELS) == 1  # the plane of the cuts
    assert sum(transfers.to_host) <= PIXELS + (PLANES + 1) * PIXELS / 16 + 24 * 200 + PLANES * (64 + 80 + 10)
