"""The paper's module; importing its package has registered the networks."""

from paperzoo.papers.resnet.module import ResNet


class GroupNorm(ResNet):
    """Wu & He, 2018: statistics over groups of channels of each image do not depend on the batch.

    ``groups`` is G, at most; 1 is layer normalisation, as many as channels instance normalisation.
    """
