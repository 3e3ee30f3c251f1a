"""Deep Residual Learning for Image Recognition (He et al., CVPR 2016): the baseline."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.resnet.network import resnet_small

__all__ = ["load_official", "resnet_small"]
