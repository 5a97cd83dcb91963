"""Images in files: Zarr v2, v3 and shards; no engine."""
