"""Intensity normalization of serial-section OCT volumes, as an xarray accessor.

Importing this package registers ``.octnorm`` on every `xarray.DataArray`.
"""

from importlib.metadata import version

from xoctnorm.accessor import OctnormAccessor
from xoctnorm.errors import InputError, OctnormWarning

__all__ = ["InputError", "OctnormAccessor", "OctnormWarning", "__version__"]

__version__ = version("xoctnorm")
