"""Members in threads: results, gradients and statistics of the members one by one."""

import copy
import os

import pytest
import torch
from contract import batch_of, configured
from torch import nn

from paperzoo.data.interface import make_data
from paperzoo.networks.ensemble import ensemble_of
from paperzoo.papers.bagging import threads
from paperzoo.papers.bagging.threads import in_threads, may_be_threaded
from paperzoo.tasks.making import make_module


def members(count=3):
    torch.manual_seed(0)
    return list(ensemble_of(members=count, depth=11, width=2, in_chans=1, num_classes=10).double().members)


def test_logits_gradients_and_statistics_are_those_of_the_members_one_by_one():
    ours = members()
    theirs = copy.deepcopy(ours)
    images = torch.randn(6, 1, 12, 12, dtype=torch.float64)
    for step in range(2):
        found = in_threads(ours, images, count=2)
        expected = [member(images) for member in theirs]
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
        for outputs in (found, expected):
            sum((n + 1) * y.square().sum() for n, y in enumerate(outputs) if n != 1).backward()  # none of the second
        for n, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            for name, parameter in b.named_parameters():
                got = a.get_parameter(name).grad
                if n == 1:
                    assert got is None
                else:
                    torch.testing.assert_close(got, parameter.grad, rtol=1e-9, atol=1e-12)
            for name, buffer in b.named_buffers():
                torch.testing.assert_close(a.get_buffer(name), buffer, rtol=0, atol=1e-12)
        assert int(ours[1].get_buffer("bn1.num_batches_tracked")) == step + 1


def test_the_callers_threads_and_autocast_stay():
    before = torch.get_num_threads()
    images = torch.randn(2, 1, 12, 12)
    ours = [nn.Sequential(nn.Flatten(), nn.Linear(144, 10)) for _ in range(2)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert [y.dtype for y in in_threads(ours, images, count=2)] == [torch.bfloat16] * 2
    assert [y.dtype for y in in_threads(ours, images, count=2)] == [torch.float32] * 2
    assert torch.get_num_threads() == before
    torch.set_num_threads(2)
    try:
        pool = threads._pool.__wrapped__(2, os.getpid())  # a new one
        asked = pool.map(lambda _: (torch.rand(200, 200).sum(), torch.get_num_threads()), range(8))
        seen = {count for _, count in asked}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert seen == {1}


def test_a_member_that_is_frozen_has_no_gradient():
    ours, images = [nn.Linear(3, 2) for _ in range(2)], torch.randn(4, 3)
    ours[0].requires_grad_(False)
    sum(y.sum() for y in in_threads(ours, images, count=2)).backward()
    assert ours[0].weight.grad is None
    torch.testing.assert_close(ours[1].weight.grad, images.sum(0).expand(2, 3))


def test_an_error_in_a_thread_is_the_callers():
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        in_threads([nn.Linear(3, 2), nn.Linear(4, 2)], torch.zeros(2, 3), count=2)


def test_which_members_are_threaded(monkeypatch):
    ours, images = members(4), torch.zeros(2, 1, 12, 12, dtype=torch.float64)
    before = copy.deepcopy(ours[0].state_dict())
    monkeypatch.setattr(threads.torch, "get_num_threads", lambda: 2)
    drawn = torch.get_rng_state()
    assert may_be_threaded(ours, images)
    assert all(torch.equal(value, before[name]) for name, value in ours[0].state_dict().items())  # copies are tried
    assert not may_be_threaded(ours[:3], images)  # one core would wait
    drawing = [nn.Sequential(nn.Flatten(), nn.Dropout(0.1)) for _ in range(2)]
    assert not may_be_threaded(drawing, images)
    assert torch.equal(torch.get_rng_state(), drawn)
    monkeypatch.setattr(threads.torch, "get_num_threads", lambda: 1)
    assert not may_be_threaded(ours, images)


@pytest.mark.full
@pytest.mark.parametrize("dropped", [False, True])
def test_a_bagged_module_has_the_same_losses_and_gradients_in_threads(dropped, monkeypatch):
    small = ["model.members=3", "model.width=2", "data.image_size=12", "trainer.precision=64-true"]
    config = configured("bagging", *small, "model.diverged=drop")
    data = make_data(config)
    batch = batch_of(data, torch.float64)
    found = []
    threads._pool(2, os.getpid())  # made while torch says how many threads there are
    for threaded in (True, False):
        module = make_module(config, data)
        module._threaded = 3, threaded
        monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
        if dropped:
            with torch.no_grad():
                module.network.members[1].fc.bias[0] = float("nan")
        module.running = module.make_running()
        losses = module.losses(batch)
        sum(losses.values()).backward()
        found.append((losses, {name: p.grad for name, p in module.named_parameters()}))
    (ours, gradients), (theirs, expected) = found
    assert ours.keys() == theirs.keys()
    assert len(ours) == 3 - dropped
    for name, loss in theirs.items():
        torch.testing.assert_close(ours[name], loss, rtol=0, atol=1e-12)
    for name, gradient in expected.items():
        if gradient is None:
            assert gradients[name] is None
        else:
            torch.testing.assert_close(gradients[name], gradient, rtol=1e-9, atol=1e-12)
