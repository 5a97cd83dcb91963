"""The graph, its evaluator, whole-image values, and the plan: no dask, no zarr."""
