"""Retrieval over two ranks. In a file of its own, since each rank imports what its file does."""

import torch
from torch import Tensor

from paperzoo.data.interface import Batch
from paperzoo.papers.triplet import TripletLoss
from paperzoo.tasks.retrieval import Retrieval, ranking

CHOICES = {
    "loss": {"name": "triplet", "_target_": f"{TripletLoss.__module__}.TripletLoss"},
    "optimizer": {}, "scheduler": {}, "mix": {"name": "none"}, "norm": {"name": "paper"},
}  # fmt: skip


class Given(Retrieval):
    """The images are the embeddings."""

    def build_network(self, network, in_chans, embedding=None, **options):
        return torch.nn.Flatten()


def evaluated(rank: int, x: Tensor, labels: Tensor) -> dict[str, float]:
    """What a rank that sees its part of the split computes for the whole."""
    module = Given(model={"name": "none", "network": "none"}, info={"in_chans": 3, "image_size": 1}, **CHOICES)
    module.on_test_epoch_start()
    for images, classes in zip(x.chunk(2)[rank].split(6), labels.chunk(2)[rank].split(6), strict=True):
        module.test_step(Batch(images, classes), 0)
    module.on_test_epoch_end()
    return module.results["test"]


def test_every_image_is_ranked_against_those_of_all_ranks(ranks):
    chance = torch.Generator().manual_seed(0)
    x, labels = torch.randn(20, 3, 1, 1, generator=chance), torch.randint(4, (20,), generator=chance)
    whole = ranking(x.flatten(1), labels)
    expected = {"map": whole.map} | {f"recall{k}": float(whole.cmc[k - 1]) for k in (1, 5, 10)}
    part = ranking(x[:10].flatten(1), labels[:10])
    assert part.map != whole.map
    for got in ranks.run(2, evaluated, x, labels):
        assert got == expected
