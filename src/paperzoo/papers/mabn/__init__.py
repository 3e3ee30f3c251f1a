"""Towards Stabilizing Batch Statistics in Backward Propagation of Batch Normalization (Yan et al., ICLR 2020)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.mabn.mabn import CenConv2d, MABN2d
from paperzoo.papers.mabn.network import mabn_resnet50, mabn_small

__all__ = ["CenConv2d", "MABN2d", "load_official", "mabn_resnet50", "mabn_small"]
