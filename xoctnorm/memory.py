"""Memory that was freed, given back to the system."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress


def give_back() -> None:
    """Give memory that was freed back to the system, where the C library keeps it for later, as that of Linux does.

    Each thread's share is kept apart, so that what some have freed is of no use to others.
    """
    if sys.platform == "linux":
        with suppress(AttributeError):  # musl gives it back by itself
            ctypes.CDLL(None).malloc_trim(0)
