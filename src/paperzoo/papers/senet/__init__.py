"""Squeeze-and-Excitation Networks (Hu et al., CVPR 2018)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.senet.network import se_resnet50_moskomule, senet_small
from paperzoo.papers.senet.se_block import SEBlock

__all__ = ["SEBlock", "load_official", "se_resnet50_moskomule", "senet_small"]
