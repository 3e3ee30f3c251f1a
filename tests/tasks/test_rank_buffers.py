"""Statistics that each rank keeps for itself are in a checkpoint, and come back when training starts."""

import pytest
import torch
from composed import compose

from paperzoo.data.interface import make_data
from paperzoo.tasks.making import make_module

WORDS = ["model=resnet", "model.depth=11", "model.width=2", "norm=mabn", "data.image_size=8", "data.limit_train=64",
         "trainer=cpu", "logger=none"]  # fmt: skip


@pytest.mark.promise
def test_a_checkpoint_brings_back_the_buffers_of_a_rank():
    config = compose("train", WORDS)
    module = make_module(config, make_data(config))
    module.schedule = torch.optim.lr_scheduler.LambdaLR(torch.optim.SGD(module.parameters(), lr=1.0), lambda _: 1.0)
    own = module._rank_buffers
    assert own
    for name in own:
        module.network.get_buffer(name).normal_()
    kept = {name: module.network.get_buffer(name).clone() for name in own}
    checkpoint: dict = {}
    module.on_save_checkpoint(checkpoint)
    for name in own:
        module.network.get_buffer(name).zero_()
    module.on_load_checkpoint(checkpoint)
    module.on_train_start()
    assert all(torch.equal(module.network.get_buffer(name), value) for name, value in kept.items())
