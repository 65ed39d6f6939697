"""Intensity normalization of serial-section OCT volumes, as an xarray accessor.

Importing this package registers ``.octnorm`` on every `xarray.DataArray`.
"""

from importlib.metadata import version

from xoctnorm.accessor import OctnormAccessor
from xoctnorm.errors import InputError, OctnormWarning
from xoctnorm.opening import open_volume
from xoctnorm.progress import set_progress

__all__ = ["InputError", "OctnormAccessor", "OctnormWarning", "__version__", "open_volume", "set_progress"]

__version__ = version("xoctnorm")
