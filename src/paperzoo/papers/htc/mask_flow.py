"""Mask information flow (HTC, section 3.1): a stage's mask head sees what the one before has found."""

from torch import Tensor, nn

from paperzoo.detection import initial
from paperzoo.papers.mask_rcnn.mask_head import MaskHead


class FlowMaskHead(MaskHead):
    """A mask head that also takes the features of the head before it.

    Args:
        in_channels, channels, num_classes: see ``MaskHead``.
        receives: whether there is a head before it.
    """

    def __init__(self, in_channels: int, channels: int, num_classes: int, receives: bool) -> None:
        super().__init__(in_channels, channels, num_classes)
        if receives:
            self.flow = nn.Conv2d(channels, in_channels, 1)
            initial.he(self.flow)

    def trunk(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """(P, C, 14, 14) and what the head before gave at this point, or None -> (P, channels, 14, 14)."""
        return super().trunk(x if before is None else x + self.flow(before).relu_())


def masks_through(heads: nn.ModuleList, pooled: Tensor, flow: bool) -> list[Tensor]:
    """Logits of each head on the same regions; with ``flow`` each goes on from the one before it."""
    logits, before = [], None
    for head in heads:
        assert isinstance(head, FlowMaskHead)
        own = head.trunk(pooled, before)
        logits.append(head.head(own))
        before = own if flow else None
    return logits


def last_mask(heads: nn.ModuleList, pooled: Tensor, flow: bool) -> Tensor:
    """Logits of the last head, for which the others' need not be computed; gradients flow into all of them."""
    before = None
    for head in heads[:-1] if flow else ():
        assert isinstance(head, FlowMaskHead)
        before = head.trunk(pooled, before)
    last = heads[-1]
    assert isinstance(last, FlowMaskHead)
    return last.head(last.trunk(pooled, before))
