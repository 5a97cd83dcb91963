"""Running a plan: executors, progress, provenance, and the run from store to store."""
