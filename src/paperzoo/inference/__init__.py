"""Applying what was trained: loading networks, preparing images, predicting, exporting."""
