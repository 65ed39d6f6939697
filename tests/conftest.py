"""Volumes that the tests share, and schedulers that notice what should not happen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# Equations of tests are small. Where several workers run tests, threads of BLAS would wait for each other, spinning.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import dask
import numpy as np
import pytest
import xarray as xr

import xoctnorm  # noqa: F401  (registers the accessor)
from xoctnorm.kernels import backend
from xoctnorm.phantom import make_phantom

backend._SMALL_PLANE = 0  # so that threads take the planes of tests, too

collect_ignore = ["killing.py"]  # a program that a test runs

# Before 2.4 NumPy interpolates percentiles of float32 values in another precision.
NUMPY_ROUNDS_AS_WE_DO = np.lib.NumpyVersion(np.__version__) >= "2.4.0"


def brain(n_sections: int = 4, planes: int = 5, shape: tuple[int, int] = (24, 30), seed: int = 1) -> xr.DataArray:
    """A small volume: a bright ellipse in dim agarose, a gain per section, noise."""
    rng = np.random.default_rng(seed)
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    tissue = (y / 0.75) ** 2 + (x / 0.7) ** 2 < 1
    image = np.where(tissue, 0.6 + 0.2 * np.cos(5 * x) * np.cos(4 * y), 0.1)
    gain = np.repeat(rng.uniform(0.8, 1.25, n_sections), planes)
    values = image * gain[:, None, None] * rng.gamma(20, 1 / 20, (gain.size, *shape))
    return xr.DataArray(
        values.astype(np.float32),
        dims=("z", "y", "x"),
        coords={
            "z": ("z", 10.0 * np.arange(gain.size), {"units": "um"}),
            "y": ("y", 2.0 * np.arange(shape[0]), {"units": "um"}),
            "x": ("x", 2.0 * np.arange(shape[1]), {"units": "um"}),
            "section": ("z", np.repeat(np.arange(n_sections), planes)),
        },
        name="intensity",
        attrs={"units": "counts", "long_name": "OCT intensity"},
    )


@cache
def _cut_phantom() -> xr.Dataset:
    return make_phantom(shape=(64, 80), n_sections=6, planes_per_section=5, seed=1)


def cut_brain() -> xr.DataArray:
    """The smallest phantom from which the model of tissue can tell everything, so that nothing warns."""
    volume = _cut_phantom()["volume"].copy(deep=True).rename("intensity")
    return volume.assign_attrs(units="counts", long_name="OCT intensity")


@pytest.fixture
def volume() -> xr.DataArray:
    return brain()


@contextmanager
def no_computing() -> Iterator[None]:
    """Let nothing be computed by dask inside."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("computed, although nothing should be")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture
def hostile_page(tmp_path: Path) -> Path:
    """The report on a volume whose attributes are hostile, as a file."""
    from test_report import hostile_report  # needs packages that other tests do without

    path = tmp_path / "qc.html"
    path.write_text(hostile_report()[0], encoding="utf-8")
    return path


@pytest.fixture
def lazy() -> object:
    return no_computing


def read_only(da: xr.DataArray) -> xr.DataArray:
    values = da.to_numpy().copy()
    values.setflags(write=False)
    return da.copy(data=values)


# Ways to hold the same volume; every operation must give the same bits for all of them.
HOLDINGS = {
    "numpy": lambda da: da,
    "read-only": read_only,
    "fortran": lambda da: da.copy(data=np.asfortranarray(da.to_numpy())),
    "transposed": lambda da: da.transpose("x", "z", "y"),
    "reversed strides": lambda da: da.copy(data=da.to_numpy()[:, ::-1, ::-1].copy()[:, ::-1, ::-1]),
    "big-endian": lambda da: da.copy(data=da.to_numpy().astype(da.dtype.newbyteorder(">"))),
    "one chunk": lambda da: da.chunk(),
    "planes": lambda da: da.chunk(z=1),
    "awkward chunks": lambda da: da.chunk(z=(3, 1, da.sizes["z"] - 4), y=(1, da.sizes["y"] - 1), x=7),
    "columns": lambda da: da.transpose("y", "x", "z").chunk(y=da.sizes["y"] // 5 + 1, x=da.sizes["x"] // 5 + 1, z=-1),
}


@pytest.fixture(params=HOLDINGS, ids=str)
def holding(request: pytest.FixtureRequest) -> object:
    return HOLDINGS[request.param]


def bits(da: xr.DataArray) -> np.ndarray:
    """Values in the order z, y, x."""
    return da.transpose(..., "z", "y", "x").to_numpy()


def assert_same_bits(one: xr.DataArray, other: xr.DataArray) -> None:
    np.testing.assert_array_equal(bits(one), bits(other), strict=True)
