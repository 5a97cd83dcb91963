"""The faces of a filter: NumPy arrays, dask arrays, lazy images."""
