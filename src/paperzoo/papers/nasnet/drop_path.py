"""ScheduledDropPath: paths through a cell are dropped, more of them the deeper the cell and the later in training."""

import torch
from torch import Tensor, nn

from paperzoo.errors import UserError


class ScheduledDropPath(nn.Module):
    """Drop the output of an operation for whole images, and scale it up for the others.

    The probability to keep falls from 1 at the start of training to ``keep`` at its end (the paper's Scheduled
    DropPath); with ``progress`` left at 1 it is DropPath (Larsson et al., 2017). Nothing is dropped in evaluation.

    Args:
        keep: the probability at the end of training, of this cell (see ``keep_of_cell``).

    Raises:
        UserError: it is no probability above 0.
    """

    progress: Tensor

    def __init__(self, keep: float = 1.0) -> None:
        super().__init__()
        self.keep = _probability(keep)
        # A tensor, so that a compiled network is not compiled again at every step; in no state dict.
        self.register_buffer("progress", torch.ones(()), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, with images at zero."""
        if not self.training or self.keep == 1:
            return x
        keep = 1 - self.progress.float() * (1 - self.keep)
        kept = (keep + torch.rand(len(x), 1, 1, 1, device=x.device)).floor() / keep  # (B, 1, 1, 1)
        return x * kept.to(x.dtype)

    def extra_repr(self) -> str:
        """For print(network)."""
        return f"keep={self.keep:g}"


def keep_of_cell(keep: float, cell: int, cells: int) -> float:
    """1 - (cell + 1) / cells * (1 - keep): the last of all cells has ``keep``, earlier ones more."""
    return 1 - (cell + 1) / cells * (1 - _probability(keep))


def _probability(keep: float) -> float:
    if not 0 < keep <= 1:
        raise UserError(f"model.keep={keep}: a path is kept with a probability above 0, at most 1 (1 drops none)")
    return keep
