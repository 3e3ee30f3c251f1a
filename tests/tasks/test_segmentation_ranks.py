"""Evaluation over two ranks. In a file of its own, since each rank imports what its file does."""

import pytest
import torch
from pixels import batch, naive
from torch import Tensor

from paperzoo.data.interface import Batch
from paperzoo.tasks.segmentation import IGNORED, Segmentation

CHOICES = {
    "loss": {"name": "plain", "_target_": "torch.nn.CrossEntropyLoss"},
    "optimizer": {}, "scheduler": {}, "mix": {"name": "none"}, "norm": {"name": "paper"},
}  # fmt: skip


class Given(Segmentation):
    """The images are the logits."""

    def build_network(self, network, num_classes, in_chans, **options):
        return torch.nn.Identity()


def evaluated(rank: int, batches: list[tuple[Tensor, Tensor]]) -> dict[str, float]:
    """What a rank that sees every second batch computes for the whole."""
    info = {"num_classes": 6, "in_chans": 6, "image_size": 8}
    module = Given(model={"name": "none", "network": "none"}, info=info, **CHOICES)
    module.on_test_epoch_start()
    for index, each in enumerate(batches):
        if index % torch.distributed.get_world_size() == rank:
            module.test_step(Batch(*each), index)
    module.on_test_epoch_end()
    return module.results["test"]


def test_every_labelled_pixel_counts_once_over_two_ranks(ranks):
    batches = [batch(seed, count=4 - seed % 2) for seed in range(3)]
    batches[1][1].fill_(IGNORED)  # the second rank has nothing to count
    expected = naive(*(torch.cat(parts) for parts in zip(*batches, strict=True)))
    for got in ranks.run(2, evaluated, batches):
        assert got == pytest.approx(expected, rel=1e-6)
