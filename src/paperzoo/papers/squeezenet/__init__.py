"""SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and <0.5MB model size (Iandola et al., 2016)."""

from paperzoo.networks.official import load_exactly as load_official
from paperzoo.papers.squeezenet.network import (
    BypassFire,
    SqueezeNet,
    squeezenet1_0,
    squeezenet1_1,
    squeezenet_small,
)

__all__ = ["BypassFire", "SqueezeNet", "load_official", "squeezenet1_0", "squeezenet1_1", "squeezenet_small"]
