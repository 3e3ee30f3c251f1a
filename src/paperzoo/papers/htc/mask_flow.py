"""Mask information flow (HTC, section 3.2 and figure 2 c): a stage's mask head sees what the one before has found."""

from collections.abc import Sequence

from torch import Tensor, nn

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
            nn.init.kaiming_normal_(self.flow.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(self.flow.bias)

    def trunk(self, x: Tensor, before: Tensor | None = None) -> Tensor:
        """(P, C, 14, 14) and what the head before gave at this point, or None -> (P, channels, 14, 14).  Eq. 5."""
        return super().trunk(x if before is None else x + self.flow(before).relu())


def masks_through(heads: Sequence[nn.Module], pooled: Tensor, flow: bool) -> list[Tensor]:
    """Logits of each head on the same regions; with ``flow`` each goes on from the one before it."""
    logits, before = [], None
    for head in heads:
        assert isinstance(head, FlowMaskHead)
        own = head.trunk(pooled, before)
        logits.append(head.head(own))
        before = own if flow else None
    return logits


def last_mask(heads: Sequence[nn.Module], pooled: Tensor, flow: bool) -> Tensor:
    """Logits of the last head, for which the others' need not be computed; gradients flow into all of them."""
    before = None
    for head in heads[:-1] if flow else ():
        assert isinstance(head, FlowMaskHead)
        before = head.trunk(pooled, before)
    last = heads[-1]
    assert isinstance(last, FlowMaskHead)
    return last.head(last.trunk(pooled, before))
