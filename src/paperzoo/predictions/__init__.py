"""Predictions of a split as a Parquet file, and what follows from them alone: metrics, a table of classes, a picture.

A row is a sample: ``index`` (its place in the split) and the columns of its task (``classes``, ``maps``, ``objects``).
What they are of stands in the file as JSON, metadata under ``paperzoo``. A batch of the evaluation is a row group, so
that sums are rounded as they were.
"""
