"""Batch normalisation over all ranks: MegDet, A Large Mini-Batch Object Detector (Peng et al., CVPR 2018), Sec. 3.3."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.norms import SyncBatchNorm
from paperzoo.papers.sync_batch_norm.network import sync_batch_norm_resnet50, sync_batch_norm_small

__all__ = ["SyncBatchNorm", "load_official", "sync_batch_norm_resnet50", "sync_batch_norm_small"]
