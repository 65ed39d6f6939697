"""Intensity normalization of serial-section OCT volumes, as an xarray accessor.

Importing this package registers ``.octnorm`` on every `xarray.DataArray`.
"""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from xoctnorm.accessor import OctnormAccessor
from xoctnorm.errors import InputError, OctnormWarning
from xoctnorm.progress import set_progress

if TYPE_CHECKING:
    from xoctnorm.opening import open_volume

__all__ = ["InputError", "OctnormAccessor", "OctnormWarning", "__version__", "open_volume", "set_progress"]

__version__ = version("xoctnorm")


def __getattr__(name: str) -> Any:
    """Import the formats when a volume is first opened: importing the package has to be quick."""
    if name == "open_volume":
        from xoctnorm.opening import open_volume

        return open_volume
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
