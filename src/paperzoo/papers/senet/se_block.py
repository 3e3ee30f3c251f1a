"""Squeeze-and-excitation: a network's view of the whole image weighs each of its channels.

Hu, Shen, Albanie, Sun, Wu: Squeeze-and-Excitation Networks, CVPR 2018.

Shapes: B images, C channels, H x W pixels, r the reduction.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from paperzoo.errors import UserError

SQUEEZE: dict[str, Callable[[Tensor], Tensor]] = {
    "avg": lambda x: x.mean((2, 3)),
    "max": lambda x: x.amax((2, 3)),
}
EXCITATION: dict[str, type[nn.Module]] = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}


class SEBlock(nn.Module):
    """s = sigmoid(W2 relu(W1 z)), z the mean of each channel: Eq. 2 and 3; then x * s: Eq. 4.

    timm's blocks take it as ``attn_layer`` and apply it to the residual branch, after its last normalisation and
    before the sum.

    Args:
        channels: C.
        reduction: r; floor(C / r) channels lie between the two layers, one at least.
        bias: of both layers; the official code in Caffe has it, and timm's and torchvision's blocks.
        squeeze: ``avg``, or ``max`` (an ablation of the paper's).
        excitation: ``sigmoid``, or ``tanh`` or ``relu`` (likewise).

    Raises:
        UserError: a number below 1, or an unknown word.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 16,
        bias: bool = False,
        squeeze: str = "avg",
        excitation: str = "sigmoid",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if channels < 1 or reduction < 1:
            raise UserError(f"SEBlock of {channels} channels with reduction={reduction}: must be at least 1 each")
        if squeeze not in SQUEEZE or excitation not in EXCITATION:
            raise UserError(
                f"SEBlock with squeeze={squeeze}, excitation={excitation}: must be one of {', '.join(SQUEEZE)}, and one"
                f" of {', '.join(EXCITATION)}"
            )
        self.squeeze = squeeze
        narrow = max(1, channels // reduction)
        self.fc = nn.Sequential(
            nn.Linear(channels, narrow, bias, device=device, dtype=dtype),
            nn.ReLU(inplace=True),
            nn.Linear(narrow, channels, bias, device=device, dtype=dtype),
            EXCITATION[excitation](),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        z = SQUEEZE[self.squeeze](x)  # (B, C)                   Eq. 2
        s = self.fc(z)  # (B, C)                                 Eq. 3
        return x * s[:, :, None, None]  #                        Eq. 4

    def extra_repr(self) -> str:
        """For print(network)."""
        return f"squeeze={self.squeeze}"
