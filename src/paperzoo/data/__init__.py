"""Data: sources, splits, the batch pipeline, fingerprints."""
