"""The paper's module; importing its package has registered the networks."""

from paperzoo.papers.resnet.module import ResNet


class SyncBatchNormalisation(ResNet):
    """Peng et al., 2018, Sec. 3.3: the statistics of batch normalisation are those of all ranks together."""
