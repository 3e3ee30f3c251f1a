"""The paper's module; importing its package has registered the networks."""

from paperzoo.papers.resnet.module import ResNet


class SwitchableNorm(ResNet):
    """Luo et al., 2019: each layer learns its shares of instance, layer and batch statistics.

    ``using_bn=false`` mixes the first two alone; ``unbiased`` is the official code's variance.
    """
