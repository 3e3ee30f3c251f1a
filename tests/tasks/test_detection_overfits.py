"""A small Mask R-CNN learns two images by heart: whatever breaks targets, losses or detections keeps it from that."""

import pytest
import torch
from composed import compose

from paperzoo.training import load_data, make_module

WORDS = ["model=mask_rcnn", "logger=none", "trainer=cpu", "trainer.threads=1", "data.images=8", "data.batch_size=2"]
STEPS = 200


@pytest.mark.full
def test_two_images_are_learned_by_heart():
    config = compose("train", WORDS)
    torch.manual_seed(0)
    data = load_data(config)
    module = make_module(config, data)
    loader = data._loader("train", 2, train=False)  # with the truth, as an evaluation reads them
    batch = data.on_after_batch_transfer(next(iter(loader)), 0)
    optimizer = torch.optim.AdamW(module.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=STEPS)
    module.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        sum(module.losses(batch).values()).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 10.0)
        optimizer.step()
        schedule.step()
    module.eval()
    module.evaluate(batch)
    found = module.compute("val")
    assert found["box_ap50"] > 0.9
    assert found["mask_ap50"] > 0.85
