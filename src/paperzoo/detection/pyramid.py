"""Feature pyramid (Lin et al., CVPR 2017): coarse maps added to finer ones, all of one width."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from paperzoo.detection import initial


class Pyramid(nn.Module):
    """FPN without normalisation or rectifiers.

    Args:
        in_channels: of the trunk's maps, finest first.
        channels: of every level.
    """

    def __init__(self, in_channels: Sequence[int], channels: int = 256) -> None:
        super().__init__()
        self.channels = channels
        self.laterals = nn.ModuleList(nn.Conv2d(chans, channels, 1) for chans in in_channels)
        self.outputs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in in_channels)
        initial.xavier(*self.laterals, *self.outputs)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Maps, finest first -> as many levels and one more, every other place of the coarsest."""
        levels = [lateral(x) for lateral, x in zip(self.laterals, maps, strict=True)]
        for i in range(len(levels) - 1, 0, -1):
            size = levels[i - 1].shape[-2:]
            levels[i - 1] = levels[i - 1] + interpolate(levels[i], size=size, mode="nearest")
        pyramid = [output(x) for output, x in zip(self.outputs, levels, strict=True)]
        return [*pyramid, max_pool2d(pyramid[-1], 1, stride=2)]
