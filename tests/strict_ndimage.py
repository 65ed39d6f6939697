"""What the strict array has in the place of `cupyx.scipy.ndimage`: functions with CuPy's parameters, and no others."""

from __future__ import annotations

import scipy.ndimage
from strict_array import StrictArray


def label(mask, structure=None, output=None):
    """Parts of a mask, numbered from 1, and how many there are."""
    assert isinstance(mask, StrictArray)
    assert structure is None
    assert output is None
    parts, count = scipy.ndimage.label(mask._values)
    return StrictArray(parts), count
