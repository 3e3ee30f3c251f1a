"""ShuffleNet: An Extremely Efficient Convolutional Neural Network for Mobile Devices (Zhang et al., CVPR 2018)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.shufflenet_v1.channel_shuffle import channel_shuffle
from paperzoo.papers.shufflenet_v1.network import ShuffleNet, shufflenet_v1_small
from paperzoo.papers.shufflenet_v1.unit import ShuffleUnit

__all__ = ["ShuffleNet", "ShuffleUnit", "channel_shuffle", "load_official", "shufflenet_v1_small"]
