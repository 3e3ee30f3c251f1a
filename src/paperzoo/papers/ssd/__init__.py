"""SSD: Single Shot MultiBox Detector (Liu et al., ECCV 2016)."""

from paperzoo.papers.ssd.hard_negatives import hard_negatives

__all__ = ["hard_negatives"]
