"""The semantic branch (HTC, section 3.2): pixels' labels, and an embedding for the other branches."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate, pad

from paperzoo.detection import initial

CONVS = 4
IGNORED = 255  # the label of pixels that no loss looks at
TARGET = 1  # the level whose size all are brought to: of stride 8 in a ResNet


class SemanticHead(nn.Module):
    """Levels of a pyramid brought to one size, summed and convolved.

    Args:
        levels: how many.
        channels: of every level, and of all layers.
        num_classes: labels of pixels.
    """

    def __init__(self, levels: int, channels: int, num_classes: int) -> None:
        super().__init__()
        self.laterals = nn.ModuleList(nn.Conv2d(channels, channels, 1) for _ in range(levels))
        self.convs = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(CONVS))
        self.logits = nn.Conv2d(channels, num_classes, 1)
        self.embedding = nn.Conv2d(channels, channels, 1)
        initial.he(*self.laterals, *self.convs, self.logits, self.embedding)

    def forward(self, features: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Levels (B, C, h, w) -> logits (B, classes, H/8, W/8), embedding (B, C, H/8, W/8)."""
        size = features[TARGET].shape[-2:]
        fused: Tensor | None = None
        for lateral, level in zip(self.laterals, features, strict=True):
            if level.shape[-2:] != size:
                level = interpolate(level, size=size, mode="bilinear", align_corners=True)  # noqa: PLW2901
            own = lateral(level).relu_()
            fused = own if fused is None else fused + own
        assert fused is not None
        for conv in self.convs:
            fused = conv(fused).relu_()
        return self.logits(fused), self.embedding(fused).relu_()


def semantic_loss(logits: Tensor, maps: Sequence[Tensor], stride: int) -> Tensor:
    """Cross entropy of the pixels' labels, a mean over all pixels: ignored ones count in the denominator.

    Args:
        logits: (B, classes, H / stride, W / stride).
        maps: (h, w) of each image; what the batch has beyond them is ignored.
        stride: pixels between two places of the logits.
    """
    height, width = (stride * side for side in logits.shape[-2:])
    padded = [pad(part, (0, width - part.shape[1], 0, height - part.shape[0]), value=IGNORED) for part in maps]
    labels = torch.stack(padded)[:, ::stride, ::stride].long()
    return cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum") / labels.numel()
