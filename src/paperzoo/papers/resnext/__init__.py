"""Aggregated Residual Transformations for Deep Neural Networks (Xie et al., CVPR 2017)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.resnext.forms import FORMS, Aggregated, in_form
from paperzoo.papers.resnext.network import resnext_small

__all__ = ["FORMS", "Aggregated", "in_form", "load_official", "resnext_small"]
