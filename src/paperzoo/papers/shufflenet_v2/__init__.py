"""ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design (Ma et al., ECCV 2018)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.shufflenet_v2.halves import interleave, split
from paperzoo.papers.shufflenet_v2.network import shufflenet_v2_small
from paperzoo.papers.shufflenet_v2.torchvision_form import TorchvisionForm
from paperzoo.papers.shufflenet_v2.unit import SplitUnit

__all__ = ["SplitUnit", "TorchvisionForm", "interleave", "load_official", "shufflenet_v2_small", "split"]
