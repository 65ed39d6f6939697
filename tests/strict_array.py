"""An array that acts like one of CuPy, on any machine: values of NumPy behind walls.

It refuses to become an array of NumPy, to be mixed with one, and to become a Python number; it has the functions of
CuPy that are listed here, with their parameters and no others. Values come to the host by `to_device(x, "cpu")` alone,
as array-api-compat does it for CuPy: that, and uploads, are counted in `TRANSFERS`.
"""

from __future__ import annotations

import operator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from xoctnorm.kernels.backend import NDIMAGE

NDIMAGE[__name__] = "strict_ndimage"  # as `cupyx.scipy.ndimage` belongs to CuPy

# What CuPy offers, of what is used here and by xarray and dask, and the keywords that are used; `test_gpu_absent.py`
# compares them with CuPy itself. None: a ufunc, which takes arrays, or numbers, and `out`.
_UFUNCS = """abs add subtract multiply true_divide divide negative minimum maximum exp log tanh ldexp isnan isfinite
isinf invert bitwise_and bitwise_or bitwise_xor right_shift left_shift equal not_equal less less_equal greater
greater_equal logical_and logical_or logical_not"""
_OPERATORS = "add sub mul truediv floordiv mod and or xor rshift lshift eq ne lt le gt ge"
FUNCTIONS: dict[str, tuple[str, ...] | None] = {
    **dict.fromkeys(_UFUNCS.split()),
    "sum": ("axis", "dtype", "out", "keepdims"),
    "min": ("axis", "out", "keepdims"),
    "max": ("axis", "out", "keepdims"),
    "any": ("axis", "out", "keepdims"),
    "all": ("axis", "out", "keepdims"),
    "count_nonzero": ("axis",),
    "where": ("condition", "x", "y"),
    "clip": ("a_min", "a_max", "out"),
    "stack": ("axis", "out", "dtype", "casting"),
    "concatenate": ("axis", "out", "dtype", "casting"),
    "sort": ("axis", "kind"),
    "partition": ("kth", "axis"),
    "searchsorted": ("v", "side", "sorter"),
    "bincount": ("weights", "minlength"),
    "interp": ("left", "right", "period"),
    "ascontiguousarray": ("dtype",),
    "copyto": ("casting", "where"),
    "broadcast_to": ("shape",),
    "transpose": ("axes",),
    "permute_dims": ("axes",),
    "expand_dims": ("axis",),
    "moveaxis": ("source", "destination"),
    "take": ("indices", "axis", "out"),
    "reshape": ("newshape", "order"),
    "shape": (),
    "ndim": (),
    "result_type": (),
    "empty_like": ("dtype", "order", "shape"),
    "zeros_like": ("dtype", "order", "shape"),
    "ones_like": ("dtype", "order", "shape"),
    "full_like": ("fill_value", "dtype", "order", "shape"),
}
CREATION: dict[str, tuple[str, ...]] = {
    "empty": ("shape", "dtype", "order"),
    "zeros": ("shape", "dtype", "order"),
    "full": ("shape", "fill_value", "dtype", "order"),
    "arange": ("start", "stop", "step", "dtype"),
}
_ON_DEVICE_ONLY = {"searchsorted", "bincount", "interp"}  # which take no numbers in the place of arrays


@dataclass
class Transfers:
    """Elements of every transfer to the host, and to the device."""

    to_host: list[int] = field(default_factory=list)
    to_device: list[int] = field(default_factory=list)


TRANSFERS = Transfers()


@contextmanager
def counted():
    """What crosses between host and device inside."""
    global TRANSFERS
    before, TRANSFERS = TRANSFERS, Transfers()
    try:
        yield TRANSFERS
    finally:
        TRANSFERS = before


class StrictArray:
    """See the module."""

    __array_priority__ = 100

    def __init__(self, values):
        assert isinstance(values, np.ndarray)
        assert values.dtype.isnative
        self._values = values

    # ------------------------------------------------------------------------------------------------ what it is

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)
    ndim = property(lambda self: self._values.ndim)
    size = property(lambda self: self._values.size)
    itemsize = property(lambda self: self._values.itemsize)
    nbytes = property(lambda self: self._values.nbytes)
    strides = property(lambda self: self._values.strides)
    flags = property(lambda self: self._values.flags)
    T = property(lambda self: StrictArray(self._values.T))

    @property
    def device(self):
        return "strict"

    def __array_namespace__(self, api_version=None):
        return NAMESPACE

    def to_device(self, device, stream=None):
        """Copy to the host; `array_api_compat.to_device` calls `get` of CuPy's arrays for that."""
        assert device == "cpu"
        TRANSFERS.to_host.append(self.size)
        return self._values.copy()

    # ------------------------------------------------------------------------------------------- what it refuses

    def __array__(self, dtype=None, copy=None):
        raise TypeError("Implicit conversion to a NumPy array is not allowed")

    def _no_number(self, *args):
        raise TypeError("a number was taken from the device without being counted")

    __float__ = __int__ = __bool__ = __index__ = __complex__ = item = tolist = _no_number

    def __hash__(self):
        raise TypeError("unhashable type")

    # --------------------------------------------------------------------------------------------- what it can do

    def __len__(self):
        return len(self._values)

    def __iter__(self):
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key):
        return StrictArray(np.asarray(self._values[_key(key)]))

    def __setitem__(self, key, value):
        self._values[_key(key)] = _operand(value)

    def astype(self, dtype, order="K", casting=None, subok=None, copy=True):
        assert casting is None
        assert subok is None
        assert np.dtype(dtype).isnative
        return StrictArray(self._values.astype(dtype, copy=copy))

    def copy(self, order="C"):
        return StrictArray(self._values.copy())

    def __copy__(self):
        return self.copy()

    def __deepcopy__(self, memo):
        return self.copy()

    def view(self, dtype=None):
        return StrictArray(self._values.view(dtype) if dtype is not None else self._values.view())

    def reshape(self, *shape, order="C"):
        return StrictArray(self._values.reshape(*shape))

    def transpose(self, *axes):
        return StrictArray(self._values.transpose(*axes))

    def ravel(self, order="C"):
        return StrictArray(self._values.ravel())

    def sum(self, axis=None, dtype=None, out=None, keepdims=False):
        return NAMESPACE.sum(self, axis=axis, dtype=dtype, keepdims=keepdims)

    def any(self, axis=None, out=None, keepdims=False):
        return NAMESPACE.any(self, axis=axis, keepdims=keepdims)

    def all(self, axis=None, out=None, keepdims=False):
        return NAMESPACE.all(self, axis=axis, keepdims=keepdims)

    def min(self, axis=None, out=None, keepdims=False):
        return NAMESPACE.min(self, axis=axis, keepdims=keepdims)

    def max(self, axis=None, out=None, keepdims=False):
        return NAMESPACE.max(self, axis=axis, keepdims=keepdims)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **kwargs):
        if method != "__call__" or FUNCTIONS.get(ufunc.__name__, ()) is not None or kwargs:
            return NotImplemented  # also `where`, which CuPy does not document
        if any(isinstance(one, np.ndarray) for one in inputs):
            return NotImplemented
        return NAMESPACE.call(ufunc.__name__, *inputs, **({} if out is None else {"out": out[0]}))

    def __array_function__(self, func, types, args, kwargs):
        if func.__name__ not in FUNCTIONS:
            return NotImplemented
        return NAMESPACE.call(func.__name__, *args, **kwargs)


def _key(key):
    """An index as NumPy takes it."""
    if isinstance(key, tuple):
        return tuple(_key(one) for one in key)
    if isinstance(key, StrictArray):
        return key._values
    if isinstance(key, np.ndarray | list):  # CuPy uploads it
        TRANSFERS.to_device.append(len(key))
    return key


def _operand(value):
    if isinstance(value, StrictArray):
        return value._values
    if isinstance(value, bool | int | float | np.generic) or value is None or isinstance(value, type | np.dtype | str):
        return value
    if isinstance(value, tuple | list):
        return type(value)(_operand(one) for one in value)
    raise TypeError(f"Unsupported type {type(value)}")


def _operators():
    for name in _OPERATORS.split():
        function = getattr(operator, f"__{name}__")

        def of_two(self, other, function=function):
            return StrictArray(np.asarray(function(self._values, _operand(other))))

        def reflected(self, other, function=function):
            return StrictArray(np.asarray(function(_operand(other), self._values)))

        setattr(StrictArray, f"__{name}__", of_two)
        if name in ("eq", "ne", "lt", "le", "gt", "ge"):
            continue
        in_place_function = getattr(operator, f"__i{name}__")

        def in_place(self, other, function=in_place_function):
            self._values = function(self._values[...], _operand(other))
            return self

        setattr(StrictArray, f"__r{name}__", reflected)
        setattr(StrictArray, f"__i{name}__", in_place)
    for name in ("neg", "invert", "abs", "pos"):
        function = getattr(operator, f"__{name}__")
        setattr(StrictArray, f"__{name}__", lambda self, function=function: StrictArray(function(self._values)))


_operators()


class Namespace:
    """The functions, as a module has them."""

    __name__ = "strict_array"

    def __getattr__(self, name):
        if name in FUNCTIONS:
            return lambda *args, **kwargs: self.call(name, *args, **kwargs)
        if name in CREATION:
            return lambda *args, **kwargs: self.create(name, *args, **kwargs)
        if name in ("float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint64"):
            return getattr(np, name)
        raise AttributeError(f"CuPy has no {name}, or it is not listed in {__name__}")

    def asarray(self, values, dtype=None, order=None, copy=None, blocking=False):
        """Upload values of NumPy."""
        if isinstance(values, StrictArray):
            return values if dtype is None else values.astype(dtype)
        values = np.asarray(values, dtype)
        TRANSFERS.to_device.append(values.size)
        return StrictArray(values.astype(values.dtype.newbyteorder("=")))  # CuPy swaps bytes, and copies

    def create(self, name, *args, **kwargs):
        assert set(kwargs) <= set(CREATION[name]), (name, kwargs)
        return StrictArray(getattr(np, name)(*(_operand(one) for one in args), **kwargs))

    def call(self, name, *args, **kwargs):
        allowed = FUNCTIONS[name]
        keywords = ("out",) if allowed is None else allowed
        if not set(kwargs) <= set(keywords):
            raise TypeError(f"{name} has no {set(kwargs) - set(keywords)}")
        if name in _ON_DEVICE_ONLY and not all(isinstance(one, StrictArray) for one in args):
            raise TypeError(f"{name} takes arrays on the device")
        if name == "take" and isinstance(args[1], np.ndarray):  # which may be "array-like" there, as for indexing
            args = (args[0], self.asarray(args[1]), *args[2:])
        given = {key: _operand(value) for key, value in kwargs.items()}
        result = getattr(np, name)(*(_operand(one) for one in args), **given)
        if "out" in kwargs and kwargs["out"] is not None:
            return kwargs["out"]
        if isinstance(result, np.ndarray | np.generic) and name not in ("ndim", "shape"):
            return StrictArray(np.asarray(result))  # of reductions too: arrays without dims
        return result


NAMESPACE = Namespace()


def strict(values):
    """An array on the strict device, which is not counted."""
    return StrictArray(np.array(values, dtype=values.dtype.newbyteorder("=")))
