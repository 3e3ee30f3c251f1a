"""Layers synchronised over gloo ranks, against one process that sees the whole batch in float64."""

import copy

import pytest
import timm
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from paperzoo.norms import SyncBatchNorm, convert
from paperzoo.papers.switchable_norm import SwitchNorm2d

CHANNELS = 3
RESULTS = ("y", "dx", "dweight", "dbias", "running_mean", "running_var")


def batch(images: int, side: int, dtype: torch.dtype, mean: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps with the given mean and a standard deviation of about 1, and what the loss multiplies outputs with."""
    draw = torch.Generator().manual_seed(images * 100 + side)
    x = torch.randn(images, CHANNELS, side, side + 1, generator=draw, dtype=torch.float64) + mean
    return x.to(dtype), torch.randn(x.shape, generator=draw, dtype=torch.float64).to(dtype)


def layer(kind: str, dtype: torch.dtype) -> nn.Module:
    made = {"batch": nn.BatchNorm2d, "sync": SyncBatchNorm, "switch": SwitchNorm2d}[kind](CHANNELS)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([0.5, 1.0, -2.0]).view_as(made.weight))
        made.bias.copy_(torch.tensor([0.1, -3.0, 0.0]).view_as(made.bias))
    if kind == "switch":
        made.synchronise = dist.is_initialized()
    return made.to(dtype if dtype == torch.float64 else torch.float32)


def results(norm: nn.Module, x: torch.Tensor, g: torch.Tensor) -> dict[str, torch.Tensor]:
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * g).sum().backward()
    return dict(zip(RESULTS, (y.detach(), x.grad, norm.weight.grad, norm.bias.grad, norm.running_mean,
                              norm.running_var), strict=True))  # fmt: skip


def on_rank(rank, kind, splits, side, dtype, mean):
    x, g = (whole.split(splits)[rank] for whole in batch(sum(splits), side, dtype, mean))
    return results(layer(kind, dtype), x, g)


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest difference, relative to the largest value."""
    return float((a.double() - b.double()).abs().max() / b.double().abs().max())


def compare(ranks, kind, splits, side, dtype, mean, allowed):
    got = ranks.run(len(splits), on_rank, kind, splits, side, dtype, mean)
    x, g = batch(sum(splits), side, dtype, mean)
    reference = layer("batch" if kind == "sync" else kind, torch.float64)
    expected = results(reference, x.double(), g.double())
    joined = {key: torch.cat([each[key] for each in got]) for key in ("y", "dx")}
    joined |= {key: sum(each[key] for each in got) for key in ("dweight", "dbias")}
    for each in got:
        joined |= {key: each[key] for key in ("running_mean", "running_var")}
        for key in RESULTS:
            assert difference(joined[key], expected[key].view_as(joined[key])) < allowed, (key, kind, splits, dtype)


splits = st.lists(st.integers(0, 5), min_size=2, max_size=4).filter(lambda sizes: sum(sizes) >= 2)


@pytest.mark.parametrize("kind", ["sync", "switch"])
@given(splits=splits, side=st.integers(2, 5), dtype=st.sampled_from([torch.float32, torch.float64]),
       mean=st.sampled_from([0.0, 3.0, -20.0]))  # fmt: skip
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
def test_ranks_with_unequal_and_empty_batches_equal_one_process(ranks, kind, splits, side, dtype, mean):
    compare(ranks, kind, splits, side, dtype, mean, 1e-11 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("kind", ["sync", "switch"])
@pytest.mark.parametrize("splits", [[4, 4], [1, 7], [3, 0, 5], [2, 2, 1, 3]])
def test_a_mean_of_ten_thousand_does_not_cancel(ranks, kind, splits):
    compare(ranks, kind, splits, 6, torch.float32, 1e4, 1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(ranks, dtype):
    got = ranks.run(2, on_rank, "sync", [3, 5], 4, dtype, 2.0)
    x, g = batch(8, 4, dtype, 2.0)
    expected = results(layer("batch", torch.float64), x.double(), g.double())
    assert {each["y"].dtype for each in got} == {dtype}
    assert {each["running_var"].dtype for each in got} == {torch.float32}
    assert difference(torch.cat([each["y"] for each in got]), expected["y"]) < 2 * torch.finfo(dtype).eps
    for key in ("running_mean", "running_var"):
        assert difference(got[0][key], expected[key]) < 1e-5


def one_number(rank):
    norm = SyncBatchNorm(2)
    y = norm(torch.full((1 - rank, 2, 1, 1), 5.0))
    return y.detach(), norm.running_mean, norm.running_var


def test_one_number_per_channel_gives_the_shift_and_no_nan(ranks):
    for y, mean, variance in ranks.run(2, one_number):
        assert torch.equal(y, torch.zeros_like(y))
        torch.testing.assert_close(mean, torch.full((2,), 0.5))
        torch.testing.assert_close(variance, torch.full((2,), 0.9))


def counted_calls(function):
    calls = []
    original = dist.all_reduce
    dist.all_reduce = lambda tensor, **options: (calls.append(tensor.numel()), original(tensor, **options))[1]
    try:
        function()
    finally:
        dist.all_reduce = original
    return calls


def counted(rank, kind):
    return counted_calls(lambda: results(layer(kind, torch.float32), *batch(4, 3, torch.float32, 0.0)))


@pytest.mark.parametrize("size", [2, 4])
def test_one_all_reduce_forward_and_one_backward_whatever_the_number_of_ranks(ranks, size):
    for kind in ("sync", "switch"):
        assert ranks.run(size, counted, kind) == [[1 + 2 * CHANNELS, 2 * CHANNELS]] * size


def accumulated(rank, steps):
    """DDP with gradients accumulated under no_sync, one layer recomputed in the backward pass."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), SyncBatchNorm(3), nn.ReLU(), nn.Conv2d(3, 2, 1), SyncBatchNorm(2)
    ).double()
    parallel = nn.parallel.DistributedDataParallel(Recomputed(network))
    x = torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    parts = x.split(8 // steps)
    for number, part in enumerate(parts):
        mine = part.chunk(dist.get_world_size())[rank]
        if number + 1 < len(parts):
            with parallel.no_sync():
                parallel(mine).square().mean().backward()
        else:
            parallel(mine).square().mean().backward()
    return {name: value.grad for name, value in network.named_parameters()} | dict(network.named_buffers())


class Recomputed(nn.Module):
    """Computes its network twice, to save memory."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x):
        return checkpoint(self.network, x, use_reentrant=False)


def test_no_sync_and_activation_checkpointing(ranks):
    got = ranks.run(2, accumulated, 2)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)
    ).double()
    x = torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for part in x.split(4):
        network(part).square().mean().backward()
    expected = {name: value.grad for name, value in network.named_parameters()} | dict(network.named_buffers())
    for each in got:
        for name, value in expected.items():
            torch.testing.assert_close(each[name], value, rtol=1e-9, atol=1e-12, msg=name)


def compiled(rank):
    torch._dynamo.reset()
    norm = layer("sync", torch.float32)
    function = torch.compile(copy.deepcopy(norm), fullgraph=True, backend="aot_eager")
    x, g = (whole.chunk(2)[rank] for whole in batch(6, 4, torch.float32, 1.0))
    plain, fused = results(norm, x, g), {}
    y = function(x := x.clone().requires_grad_())
    (y * g).sum().backward()
    fused = {"y": y.detach(), "dx": x.grad}
    return [float((fused[key] - plain[key]).abs().max()) for key in fused]


def test_compiles_without_a_graph_break(ranks):
    assert max(max(each) for each in ranks.run(2, compiled)) < 1e-5


def gradients(rank):
    norm = SyncBatchNorm(2).double()
    draw = torch.Generator().manual_seed(rank)
    x = torch.randn(2, 2, 2, 2, generator=draw, dtype=torch.float64)
    found = x.clone().requires_grad_()
    (norm(found) * torch.arange(16.0).view_as(x).double()).sum().backward()
    slopes = torch.zeros_like(x)
    for owner in range(2):  # one rank moves one number, all ranks compute
        for place in range(x.numel()):
            values = []
            for step in (1e-5, -1e-5):
                moved = x.clone()
                if rank == owner:
                    moved.view(-1)[place] += step
                total = (norm(moved) * torch.arange(16.0).view_as(x).double()).sum().detach()
                dist.all_reduce(total)
                values.append(float(total))
            if rank == owner:
                slopes.view(-1)[place] = (values[0] - values[1]) / 2e-5
    return float((found.grad - slopes).abs().max())


def test_gradients_are_those_of_finite_differences_across_ranks(ranks):
    assert max(ranks.run(2, gradients)) < 1e-7


def test_on_one_process_it_is_batch_normalisation_with_all_its_options():
    x = torch.randn(6, 4, 3, 3)
    for options in ({}, {"momentum": None}, {"affine": False}, {"track_running_stats": False}, {"eps": 0.1}):
        ours, theirs = SyncBatchNorm(4, **options), nn.BatchNorm2d(4, **options)
        for step in range(3):
            torch.testing.assert_close(ours(x + step), theirs(x + step))
        assert ours.state_dict().keys() == theirs.state_dict().keys()
        for key, value in theirs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[key], value)
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    for shape in ((5, 4), (5, 4, 3), (5, 4, 2, 2, 2)):
        kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 5: nn.BatchNorm3d}[len(shape)]
        x = torch.randn(shape)
        torch.testing.assert_close(SyncBatchNorm(4)(x), kind(4)(x))


def test_memory_format_is_kept():
    x = torch.randn(2, 4, 3, 3).to(memory_format=torch.channels_last).requires_grad_()
    y = SyncBatchNorm(4)(x)
    assert y.is_contiguous(memory_format=torch.channels_last)
    y.sum().backward()
    assert x.grad.is_contiguous(memory_format=torch.channels_last)


def test_fused_activations_survive():
    torch.manual_seed(0)
    network = timm.create_model("efficientnet_b0").eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        before = network(x)
        keys = list(network.state_dict())
        after = convert(network, "sync_batch")(x)
    assert torch.equal(before, after)
    assert list(network.state_dict()) == keys
    assert sum(isinstance(m, SyncBatchNorm) for m in network.modules()) == 49


def evaluated(rank):
    norm = SyncBatchNorm(2, track_running_stats=False).eval()
    return counted_calls(lambda: norm(torch.randn(3, 2, 2, 2)))


def test_evaluation_waits_for_no_other_rank(ranks):
    assert ranks.run(2, evaluated) == [[], []]
