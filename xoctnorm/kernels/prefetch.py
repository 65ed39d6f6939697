"""Asks memory for values before they are looked at, in compiled loops: see `compiled`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import llvmlite.ir as ir
import numpy as np
from numba import types
from numba.extending import intrinsic

BLOCK = 128  # values that loops take at a time
_AHEAD = 1024  # values that are looked at while memory answers
_LINE_BYTES = 64


def _fetch(_: Any, values: Any, start: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, address = ir.IntType(32), ir.IntType(8).as_pointer()
        prefetch = builder.module.declare_intrinsic(
            "llvm.prefetch", (address,), ir.FunctionType(ir.VoidType(), (address, number, number, number))
        )
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        line = _LINE_BYTES // context.get_abi_sizeof(context.get_data_type(values.dtype))
        for at in range(_AHEAD, _AHEAD + BLOCK, line):
            place = builder.gep(array.data, [builder.add(arguments[1], arguments[1].type(at))])
            builder.call(prefetch, (builder.bitcast(place, address), number(0), number(3), number(1)))  # read, and keep
        return context.get_dummy_value()

    return types.void(values, types.uint64), generate


fetch = cast(Callable[[Any, np.uint64], None], intrinsic(_fetch))
"""Ask for a block of a flat array, some blocks behind the one from `start` on; beyond its end nothing happens."""
