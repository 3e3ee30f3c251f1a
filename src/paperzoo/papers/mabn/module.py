"""The paper's module; importing its package has registered the networks."""

from paperzoo.papers.resnet.module import ResNet


class MABN(ResNet):
    """Yan et al., 2020: statistics of the last batches too, in both directions, over centralised kernels.

    ``B`` is the batch of a rank, ``real_B`` the one that is simulated.
    """
