"""Compiled loops on plain NumPy blocks: no modes, no chunks, no dask, no zarr."""

from chunkfilt.kernels._common import real_dtype

__all__ = ["real_dtype"]
