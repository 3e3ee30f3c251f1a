"""Measures that several papers share."""

from paperzoo.metrics.jaccard import box_iou, jaccard_distance, jaccard_index

__all__ = ["box_iou", "jaccard_distance", "jaccard_index"]
