"""Image data of which a share of the training labels is random (Zhang et al.: Understanding Deep Learning Requires
Rethinking Generalization, ICLR 2017): a network that fits these has memorised them.
"""

import copy

import numpy as np

from paperzoo.data.images.module import ImageData
from paperzoo.data.images.rows import SplitRows

SUFFIX = "_random_labels"


class RandomLabels(ImageData):
    """Labels of validation and test are as they are.

    ``random_labels`` of the training images, that many exactly (rounded), get a label drawn evenly from all classes, so
    that some keep their own by chance. Which ones and which labels are functions of ``label_seed`` and part of the
    data's fingerprint: seeds of a comparison train on the same labels.
    """

    def setup(self, stage: str | None = None) -> None:
        """Load, from the folder of the data with its own labels where ``data_dir`` has that and none of this name."""
        own, base = self.data_dir / self.config.name, self.data_dir / self.config.name.removesuffix(SUFFIX)
        if getattr(self.config, "path", "") is None and not own.is_dir() and base.is_dir():
            self.config = self.config.model_copy(update={"path": str(base)})
        super().setup(stage)

    def _split(self) -> dict[str, SplitRows]:
        parts = super()._split()
        train = parts["train"]
        split = copy.copy(train.split)  # validation may be of the same one
        split.labels = train.split.labels.copy()
        split.labels[train.rows] = randomised(
            train.labels, self.num_classes, self.config.random_labels, self.config.label_seed
        )
        return parts | {"train": SplitRows(split, train.rows)}


def randomised(labels: np.ndarray, classes: int, share: float, seed: int) -> np.ndarray:
    """Labels (N,) of which ``round(share * N)`` are drawn evenly from all classes.

    Larger shares contain smaller ones: an image that is random at 20 % has the same random label at 50 %.
    """
    chance = np.random.default_rng(seed)
    chosen = chance.permutation(len(labels))[: round(share * len(labels))]
    drawn = chance.integers(classes, size=len(labels), dtype=np.int64)
    new = labels.copy()
    new[chosen] = drawn[chosen]
    return new
