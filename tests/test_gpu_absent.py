"""CuPy itself on a machine without a device: what is told there, and that the strict array has CuPy's functions."""

from __future__ import annotations

import importlib
import inspect
import warnings

import numpy as np
import pytest
import strict_array
import xarray as xr
from conftest import brain

from xoctnorm import InputError, gpu, normalization
from xoctnorm.kernels import backend
from xoctnorm.provenance import steps_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # CuPy warns of what it does not find
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed: pip install 'xoctnorm[gpu-cuda12]'")

without_device = pytest.mark.skipif(cupy.is_available(), reason="there is a device: see test_gpu.py")


@without_device
def test_the_check_says_what_is_missing():
    assert gpu.lacking() == f"CuPy {cupy.__version__} finds no device: is there one, and is its driver new enough?"


@without_device
def test_a_device_that_fails_is_none(monkeypatch):
    monkeypatch.setattr(cupy, "is_available", lambda: True)
    assert f"CuPy {cupy.__version__} finds a device and fails on it (CUDARuntimeError: " in gpu.lacking()


@without_device
def test_the_cpu_takes_over():
    volume = brain()
    result = volume.octnorm.normalize(drift="scale", use_gpu=True)
    xr.testing.assert_equal(result, volume.octnorm.normalize(drift="scale"))
    (step,) = steps_of(result.attrs)
    assert step["device"] == "cpu"
    assert "finds no device" in step["without_gpu"]
    values = volume.to_numpy()
    matched = normalization.apply_histogram_matching(values, 4, 512, use_gpu=True)
    assert (matched == normalization.apply_histogram_matching(values, 4, 512)).all()


@without_device
def test_a_required_device_is_missing():
    with pytest.raises(InputError, match=r"use_gpu='require': CuPy .* finds no device"):
        brain().octnorm.normalize(use_gpu="require")


def test_array_api_compat_knows_its_arrays():
    from array_api_compat import cupy as xp
    from array_api_compat import is_cupy_namespace

    assert is_cupy_namespace(xp)
    for name in [*strict_array.FUNCTIONS, *strict_array.CREATION, "asarray"]:
        assert hasattr(xp, name), name


@pytest.mark.parametrize("name", strict_array.FUNCTIONS | strict_array.CREATION)
def test_functions_of_the_strict_array_are_those_of_cupy(name):
    function = getattr(cupy, name)
    keywords = (strict_array.FUNCTIONS | strict_array.CREATION)[name]
    if keywords is None:
        assert isinstance(function, cupy.ufunc)
        return
    parameters = inspect.signature(function).parameters
    assert any(p.kind == p.VAR_KEYWORD for p in parameters.values()) or set(keywords) <= set(parameters), parameters


@pytest.mark.parametrize("name", ["reshape", "view", "astype", "copy", "transpose", "sum", "min", "max", "any", "all"])
def test_methods_that_are_used_are_those_of_cupy(name):
    assert callable(getattr(cupy.ndarray, name))


def test_functions_on_images_are_those_of_cupy():
    ours = backend.ndimage_of(strict_array.strict(np.zeros((2, 2))))
    theirs = importlib.import_module(backend.NDIMAGE["cupy"])
    names = list(inspect.signature(ours.label).parameters)
    assert names[1:] == list(inspect.signature(theirs.label).parameters)[1:]
