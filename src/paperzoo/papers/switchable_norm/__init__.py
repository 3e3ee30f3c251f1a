"""Differentiable Learning-to-Normalize via Switchable Normalization (Luo et al., ICLR 2019)."""

from paperzoo.papers.switchable_norm.switch_norm import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d

__all__ = ["SwitchNorm1d", "SwitchNorm2d", "SwitchNorm3d"]
