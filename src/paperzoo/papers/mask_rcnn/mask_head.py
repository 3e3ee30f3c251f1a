"""The mask branch (Mask R-CNN, section 3 and figure 4 right): a small fully convolutional network on each region."""

from torch import Tensor, nn

from paperzoo.detection import initial

CONVS = 4


class MaskHead(nn.Module):
    """Features of regions -> a mask's logits for every class, so that classes do not compete.

    Args:
        in_channels: of the features.
        channels: of its layers.
        num_classes: K.
    """

    def __init__(self, in_channels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        widths = [in_channels] + [channels] * CONVS
        self.convs = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 3, padding=1) for i in range(CONVS))
        self.upsample = nn.ConvTranspose2d(channels, channels, 2, stride=2)
        self.logits = nn.Conv2d(channels, num_classes, 1)
        initial.he(*self.convs, self.upsample, self.logits)

    def trunk(self, x: Tensor) -> Tensor:
        """(P, C, 14, 14) -> (P, channels, 14, 14)."""
        for conv in self.convs:
            x = conv(x).relu_()  # in place: no map is kept twice
        return x

    def head(self, x: Tensor) -> Tensor:
        """(P, channels, 14, 14) -> (P, K, 28, 28)."""
        return self.logits(self.upsample(x).relu_())

    def forward(self, pooled: Tensor) -> Tensor:
        """(P, C, 14, 14) -> (P, K, 28, 28)."""
        return self.head(self.trunk(pooled))
