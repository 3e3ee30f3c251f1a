"""Group Normalization (Wu & He, ECCV 2018)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.group_norm.group_norm import GroupNorm, LayerNorm
from paperzoo.papers.group_norm.network import group_norm_resnet50, group_norm_small

__all__ = ["GroupNorm", "LayerNorm", "group_norm_resnet50", "group_norm_small", "load_official"]
