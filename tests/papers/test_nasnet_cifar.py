"""NASNet: ScheduledDropPath and the auxiliary head."""

import copy
import json
from pathlib import Path

import pytest
import shapes
import timm
import torch
import torch.nn.functional as F
from composed import compose
from torch import Tensor

import paperzoo.papers.resnet  # noqa: F401 (registers resnet_small)
from paperzoo.machine import make_trainer
from paperzoo.papers.nasnet import NORMAL, Cell, ScheduledDropPath
from paperzoo.papers.nasnet.drop_path import keep_of_cell
from paperzoo.training import load_data, make_module

PUBLISHED = json.loads((Path(__file__).parent / "official" / "nasnet_a_mobile.json").read_text())["keys"]


# ScheduledDropPath


def test_the_keep_probabilities_are_those_of_the_code():
    """1 - (cell + 1) / total (1 - p), in the order of computation; total = N + 2, with ImageNet's stem N + 4."""
    cifar = timm.create_model("nasnet_a_6_768")
    got = [getattr(cifar, name).drop_path.keep for name in cifar.cell_names]
    assert len(got) == 20
    assert got == pytest.approx([1 - 0.4 * (i + 1) / 20 for i in range(20)])
    assert cifar.cell_names[6] == "reduction_cell_0"
    with torch.device("meta"):
        large = timm.create_model("nasnet_a_large")
    got = [getattr(large, name).drop_path.keep for name in large.cell_names]
    assert got == pytest.approx([1 - 0.3 * (i + 1) / 22 for i in range(22)])
    mobile = timm.create_model("nasnet_a_mobile")
    assert {getattr(mobile, name).drop_path.keep for name in mobile.cell_names} == {1.0}
    assert keep_of_cell(0.6, 19, 20) == pytest.approx(0.6)


@pytest.mark.parametrize(("progress", "kept"), [(0.0, 1.0), (0.5, 0.8), (1.0, 0.6)])
def test_paths_are_kept_as_often_as_scheduled_and_scaled_up(progress, kept):
    torch.manual_seed(0)
    drop = ScheduledDropPath(0.6)
    drop.progress.fill_(progress)
    x = torch.ones(20_000, 2, 1, 1)
    y = drop(x)
    assert torch.equal(y[:, 0], y[:, 1])  # an image is dropped whole
    values = {round(value, 5) for value in y.unique().tolist()}
    assert values == ({1.0} if kept == 1 else {0.0, round(1 / kept, 5)})
    assert float((y > 0).float().mean()) == pytest.approx(kept, abs=0.02)
    assert torch.equal(drop.eval()(x), x)


def test_all_operations_but_none_are_dropped(monkeypatch):
    """Where every path is dropped, a normal cell's output is what ``none`` brings: states 1 and 0."""
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.zeros(*size))  # floor(keep + 0) = 0
    cell = Cell(NORMAL, 8, 8, 4, keep=0.9)
    x, before = torch.randn(2, 8, 6, 6), torch.randn(2, 8, 6, 6)
    out = cell(x, before)
    cur, prev = cell.conv_1x1(x), cell.conv_prev_1x1(before)
    zero = torch.zeros_like(cur)
    torch.testing.assert_close(out, torch.cat([prev, zero, zero, prev, zero, cur], 1))


def test_no_two_paths_share_their_fate():
    torch.manual_seed(0)
    cell = Cell(NORMAL, 8, 8, 4, keep=0.5)
    x = torch.rand(400, 8, 3, 3)
    mean = F.avg_pool2d(cell.conv_prev_1x1(x), 3, 1, 1, count_include_pad=False)
    out = cell(x, x)[:, 16:20]  # the mean of state 1 twice, each dropped by itself
    times = (out / mean).flatten(1).median(1).values.round().int()
    assert sorted(times.unique().tolist()) == [0, 2, 4]
    assert int((times == 2).sum()) == pytest.approx(200, abs=40)


@pytest.mark.parametrize("scheduled", [True, False])
def test_training_moves_the_schedule(scheduled, monkeypatch):
    """4 epochs of 4 steps: progress before each step is step / 16; left at 1 where there is no schedule."""
    words = ["model=nasnet", "model.filters=2", "model.keep=0.5", f"model.scheduled={str(scheduled).lower()}"]
    words += ["trainer=cpu", "trainer.max_epochs=4", "logger=none", "data.limit_train=64", "data.batch_size=16"]
    config = compose("train", [*words, "data.validation=50", "data.test=50"])
    seen = []
    forward = ScheduledDropPath.forward

    def watch(self: ScheduledDropPath, x: Tensor) -> Tensor:
        if self.training and self is module.network.cell_12.drop_path:
            seen.append(float(self.progress))
        return forward(self, x)

    monkeypatch.setattr(ScheduledDropPath, "forward", watch)
    data = load_data(config)
    module = make_module(config, data)
    make_trainer(config).fit(module, datamodule=data)
    wanted = [step / 16 for step in range(16)] if scheduled else [1.0] * 16
    assert sorted(set(seen)) == sorted(set(wanted))
    assert seen == sorted(seen)
    assert not any("progress" in key for key in module.state_dict())


# the auxiliary head


def module_with_head(weight: float) -> torch.nn.Module:
    torch.manual_seed(0)
    config = compose("train", ["model=nasnet", "model.filters=4", f"model.auxiliary={weight}"])
    data = shapes.images(10, 1)
    return make_module(config, data)


@pytest.mark.parametrize("size", [32, 28, 9])
def test_the_auxiliary_head_adds_its_share_to_the_loss_alone(size):
    """ReLU, 5x5 mean by 3, 1x1 to 128, a convolution over all that is left to 768, classifier; after stage 2."""
    module = module_with_head(0.4)
    x, y = torch.randn(6, 1, size, size), torch.arange(6)
    twin = copy.deepcopy(module)  # running statistics move with each pass
    logits, loss = module.logits_and_loss(x, y)
    head = twin.network.aux_head
    maps = []
    twin.network.cell_6.register_forward_hook(lambda m, i, out: maps.append(out))
    plain = twin(x)
    z = F.relu(maps[0])
    z = F.avg_pool2d(z, min(5, z.shape[2]), 3)
    z = F.relu(head.proj_bn(F.conv2d(z, head.proj.weight)))
    assert z.shape[2] == {32: 4, 28: 4, 9: 1}[size]
    z = z if z.shape[2] == 4 else z.expand(-1, -1, 4, 4)
    second = F.relu(head.bn(torch.einsum("bchw,fchw->bf", z, head.conv.weight)[:, :, None, None]))[:, :, 0, 0]
    second = second @ head.fc.weight.T + head.fc.bias
    torch.testing.assert_close(logits, plain)
    torch.testing.assert_close(loss, twin.loss(plain, y) + 0.4 * twin.loss(second, y))
    loss.backward()
    assert [name for name, p in module.network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []
    torch.testing.assert_close(module.eval()(x), twin.eval()(x))


def test_a_new_classifier_is_new_in_both_heads():
    network = timm.create_model("nasnet_small", auxiliary=True)
    network.reset_classifier(3)
    first, second = network.forward_both(torch.randn(2, 3, 32, 32))
    assert first.shape == second.shape == (2, 3)
    with_head = {key for key in network.state_dict() if key.startswith("aux_head.")}
    assert set(network.state_dict()) - with_head == set(timm.create_model("nasnet_small").state_dict())
