"""Mathematics on arrays: no xarray, no dask, no labels.

A *plane* is a float32 array `(y, x)`. NaN means "no data" and is left out of every statistic.
"""
