"""The head that classifies regions and moves their boxes: two fully connected layers (FPN, section 4.2)."""

from torch import Tensor, nn

from paperzoo.detection import initial


class BoxHead(nn.Module):
    """Features of regions -> class logits, the background last, and deltas.

    Args:
        channels: of the features.
        size: bins along each side.
        num_classes: K, without background.
        hidden: width of the two layers.
        agnostic: four deltas a region, else four for each class.
    """

    def __init__(self, channels: int, size: int, num_classes: int, hidden: int = 1024, agnostic: bool = True) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels * size * size, hidden)
        self.fc2 = nn.Linear(hidden, hidden)
        self.classes = nn.Linear(hidden, num_classes + 1)
        self.deltas = nn.Linear(hidden, 4 if agnostic else 4 * num_classes)
        initial.xavier(self.fc1, self.fc2)
        initial.normal(0.01, self.classes)
        initial.normal(0.001, self.deltas)

    def forward(self, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """(R, C, size, size) -> (R, K + 1), (R, 4) or (R, 4 K)."""
        x = self.fc2(self.fc1(pooled.flatten(1)).relu_()).relu_()
        return self.classes(x), self.deltas(x)
