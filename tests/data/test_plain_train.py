"""Training samples as a split is evaluated: each once, in order, without augmentation, over the ranks."""

import pytest
import torch

from paperzoo.config import compose
from paperzoo.data.interface import RunData, make_data
from paperzoo.errors import UserError

WORDS = ["model=resnet", "data.limit_train=70", "data.batch_size=8", "data.eval_batch_size=16", "data.validation=50",
         "data.test=50", "data.augment.flip=0.5", "data.image_size=28", "sampler=bootstrap"]  # fmt: skip


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("in_memory", ["true", "false"])
def test_each_training_image_comes_once_as_it_is(in_memory, ranks):
    config = compose("train", [*WORDS, f"data.in_memory={in_memory}"])
    images, labels = make_data(compose("train", WORDS)).tensors("train")
    place = 0
    for rank in range(ranks):
        data = make_data(config, rank=rank, ranks=ranks)
        data.view = torch.tensor([3, 4])  # of a stage: not for this
        data.weights = torch.rand(70)
        for loaded in data.plain_train_dataloader():
            batch = data.on_after_batch_transfer(loaded, 0)
            there = slice(place, place + len(batch.targets))
            assert batch.index.tolist() == list(range(there.start, there.stop))
            assert torch.equal(batch.targets, labels[there])
            assert torch.equal(batch.inputs, data._normalise(images[there]))
            assert batch.weights is None
            place = there.stop
    assert place == 70


def test_data_that_cannot_be_gone_through_so_says_it():
    config = compose("train", ["model=lstm"])
    data = make_data(config)
    assert isinstance(data, RunData)
    with pytest.raises(UserError, match=f"data={config.data.name}: its training samples cannot be gone through"):
        data.plain_train_dataloader()
