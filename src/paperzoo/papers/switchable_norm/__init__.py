"""Differentiable Learning-to-Normalize via Switchable Normalization (Luo et al., ICLR 2019)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.switchable_norm.network import switchable_norm_resnet50, switchable_norm_small
from paperzoo.papers.switchable_norm.switch_norm import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d

__all__ = [
    "SwitchNorm1d",
    "SwitchNorm2d",
    "SwitchNorm3d",
    "load_official",
    "switchable_norm_resnet50",
    "switchable_norm_small",
]
