"""Towards Stabilizing Batch Statistics in Backward Propagation of Batch Normalization (Yan et al., ICLR 2020)."""

from paperzoo.papers.mabn.mabn import CenConv2d, MABN2d

__all__ = ["CenConv2d", "MABN2d"]
