"""Swapping normalisation layers: what carries over, what is refused, and that the new layers are those of torch."""

import copy
from functools import partial

import pytest
import timm
import torch
import torch.nn.functional as F
from composed import compose
from timm.layers import BatchNormAct2d, Conv2dSame
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from paperzoo.config.schema import Optimizer
from paperzoo.errors import UserError
from paperzoo.norms import InstanceNorm2d, SyncBatchNorm, convert, is_norm
from paperzoo.norms.layer_sync import SyncNorms
from paperzoo.papers.group_norm import GroupNorm, LayerNorm
from paperzoo.papers.mabn import CenConv2d, MABN2d
from paperzoo.papers.switchable_norm import SwitchNorm1d, SwitchNorm2d, SwitchNorm3d
from paperzoo.tasks.optimizers import parameter_groups

WORDS = {
    "batch": (nn.BatchNorm2d, {}),
    "sync_batch": (SyncBatchNorm, {}),
    "layer": (LayerNorm, {}),
    "instance": (InstanceNorm2d, {}),
    "group": (GroupNorm, {}),
    "switchable": (SwitchNorm2d, {}),
    "mabn": (MABN2d, {"B": 4}),
}


def network() -> nn.Sequential:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 12, 3, bias=False), nn.BatchNorm2d(12, eps=1e-3), nn.ReLU(), nn.Conv2d(12, 4, 1))
    nn.init.uniform_(made[1].weight)
    nn.init.uniform_(made[1].bias)
    return made


def trained() -> nn.Sequential:
    made = network()
    for _ in range(3):
        made(torch.randn(4, 3, 8, 8) + 1)
    return made


@pytest.mark.parametrize("word", WORDS)
def test_every_word_replaces_the_layer_and_keeps_scale_shift_and_eps(word):
    before, (kind, options) = network(), WORDS[word]
    scale, shift = before[1].weight.detach().clone(), before[1].bias.detach().clone()
    after = convert(before, word, **options)
    assert after is before
    assert type(after[1]) is kind
    assert after[1].eps == 1e-3
    assert torch.equal(after[1].weight.flatten(), scale)
    assert torch.equal(after[1].bias.flatten(), shift)
    assert after(torch.randn(4, 3, 8, 8)).isfinite().all()
    assert (type(after[0]) is CenConv2d) == (word == "mabn")


def test_group_layer_and_instance_are_torchs():
    x = torch.randn(5, 12, 6, 7, dtype=torch.float64) * 3 + 2
    for groups, channels, expected in ((32, 12, 12), (32, 48, 24), (32, 64, 32), (5, 12, 4)):
        assert GroupNorm(channels, groups).num_groups == expected
    weight, bias = torch.randn(12, dtype=torch.float64), torch.randn(12, dtype=torch.float64)
    pairs = [
        (GroupNorm(12, 4), F.group_norm(x, 4, weight, bias)),
        (LayerNorm(12), F.layer_norm(x, x.shape[1:]) * weight.view(-1, 1, 1) + bias.view(-1, 1, 1)),
        (convert(nn.BatchNorm2d(12), "instance"), F.instance_norm(x, weight=weight, bias=bias)),
    ]
    for layer, expected in pairs:
        layer.double()
        with torch.no_grad():
            layer.weight.copy_(weight)
            layer.bias.copy_(bias)
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize(
    "kind", [LayerNorm, GroupNorm, SyncBatchNorm, nn.BatchNorm2d, partial(InstanceNorm2d, affine=True)]
)
def test_finite_differences(kind):
    layer = kind(4).double()
    x = torch.randn(3, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    parameters = [torch.randn(4, dtype=torch.float64, requires_grad=True) for _ in range(2)]

    def function(x, weight, bias):
        return torch.func.functional_call(copy.deepcopy(layer), {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(function, (x, *parameters))


def test_statistics_carry_over_where_there_is_a_place_and_are_not_lost_silently():
    x = torch.randn(2, 3, 8, 8)
    before = trained().eval()
    expected = before(x)
    synced = convert(copy.deepcopy(before), "sync_batch")
    assert not synced[1].training
    assert torch.equal(synced(x), expected)
    assert int(synced[1].num_batches_tracked) == 3
    switched = convert(copy.deepcopy(before), "switchable")
    assert torch.equal(switched[1].running_var.flatten(), before[1].running_var)
    with pytest.raises(UserError, match=r"1: BatchNorm2d holds statistics of training, GroupNorm has no place"):
        convert(copy.deepcopy(before), "group")
    assert type(convert(copy.deepcopy(before), "group", forget_statistics=True)[1]) is GroupNorm


def test_fused_activations_and_the_names_in_the_state_dict_stay():
    x = torch.randn(2, 8, 5, 5)
    fused = BatchNormAct2d(8, act_layer=nn.SiLU)
    parent = nn.Sequential(copy.deepcopy(fused))
    convert(parent, "group")
    torch.testing.assert_close(parent(x), F.silu(F.group_norm(x, 8)))
    assert list(parent.state_dict()) == ["0.weight", "0.bias"]
    torch.testing.assert_close(copy.deepcopy(parent)(x), parent(x))


def test_frozen_layers_only_when_asked():
    frozen = FrozenBatchNorm2d(6)
    frozen.running_mean.uniform_()
    frozen.weight.uniform_()
    parent, x = nn.Sequential(frozen, nn.BatchNorm2d(6)), torch.randn(2, 6, 4, 4)
    expected = frozen(x)
    assert type(convert(copy.deepcopy(parent), "sync_batch")[0]) is FrozenBatchNorm2d
    thawed = convert(parent, "sync_batch", frozen=True)[0].eval()
    torch.testing.assert_close(thawed(x), expected)
    assert thawed.weight.requires_grad


def test_layers_of_one_and_three_dimensions_take_the_sibling():
    parent = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm3d(4), nn.BatchNorm2d(4))
    assert [type(m) for m in convert(copy.deepcopy(parent), "switchable")] == [SwitchNorm1d, SwitchNorm3d, SwitchNorm2d]
    with pytest.raises(UserError, match="0: BatchNorm1d cannot become MABN2d, which has no form for 1d"):
        convert(parent, "mabn", B=2)


def test_a_shared_layer_stays_shared_and_a_lone_layer_is_returned():
    shared = nn.BatchNorm2d(4)
    parent = convert(nn.ModuleDict({"a": shared, "b": shared}), "group")
    assert parent["a"] is parent["b"]
    assert type(convert(nn.BatchNorm2d(8), "layer")) is LayerNorm


class Doubling(nn.BatchNorm2d):
    def forward(self, x):
        return 2 * super().forward(x)


@pytest.mark.parametrize(
    ("network", "norm", "options", "line"),
    [
        (nn.Conv2d(3, 4, 1), "group", {}, "Conv2d has no normalisation layers to replace; use norm=paper"),
        (nn.BatchNorm2d(4), "grup", {}, "norm=grup: there is no such normalisation; there are batch, group"),
        (nn.BatchNorm2d(4), "paper", {}, "there is nothing to convert"),
        (nn.BatchNorm2d(4), "group", {"grups": 3}, "GroupNorm has no grups; it takes groups, eps, affine"),
        (nn.BatchNorm2d(4), "mabn", {}, "norm=mabn: B must be given, it depends on the run"),
        (nn.BatchNorm2d(4), "mabn", {"B": 3, "real_B": 32}, "real_B=32 must be a multiple of B=3"),
        (nn.Sequential(Doubling(4)), "sync_batch", {}, "0: Doubling has a forward of its own"),
        (
            nn.Sequential(Conv2dSame(3, 4, 3), nn.BatchNorm2d(4)),
            "mabn",
            {"B": 2},
            "0: Conv2dSame has a forward of its own; CenConv2d cannot replace it",
        ),
    ],
)
def test_refusals_name_the_reason(network, norm, options, line):
    with pytest.raises(UserError, match=line):
        convert(network, norm, **options)


@pytest.mark.parametrize("word", WORDS)
def test_an_empty_batch_hands_on_gradients(word):
    """Such a rank has no image left, but takes part in DDP's reduction."""
    changed = convert(network(), word, **WORDS[word][1])
    x = torch.zeros(0, 3, 8, 8, requires_grad=True)
    changed(x).sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in changed.parameters())


def test_torchs_converter_leaves_the_papers_layers_alone():
    parent = nn.Sequential(SwitchNorm2d(4), MABN2d(4, 2), nn.BatchNorm2d(4))
    after = nn.SyncBatchNorm.convert_sync_batchnorm(parent)
    assert [type(m) for m in after] == [SwitchNorm2d, MABN2d, nn.SyncBatchNorm]


def test_lightnings_hook_synchronises_what_has_batch_statistics_and_nothing_else():
    parent = nn.Sequential(SwitchNorm2d(4), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
    after = SyncNorms().apply(parent)
    assert after[0].synchronise
    assert [type(m) for m in after] == [SwitchNorm2d, SyncBatchNorm, nn.GroupNorm]


def test_weight_decay_spares_every_parameter_of_a_norm():
    choice = compose("train", ["model=scnet"]).optimizer.model_copy(update={"decay_norms_and_biases": False})
    assert isinstance(choice, Optimizer)
    parent = nn.Sequential(nn.Conv2d(3, 4, 3), SwitchNorm2d(4))
    decayed, spared = parameter_groups(parent, choice)
    assert [p.shape for p in decayed["params"]] == [parent[0].weight.shape]
    assert len(spared["params"]) == 5
    assert spared["weight_decay"] == 0


@pytest.mark.parametrize("name", ["resnet18", "densenet121", "mobilenetv3_small_100", "seresnet50"])
def test_networks_of_timm_take_every_norm(name):
    for word, (_, options) in WORDS.items():
        made = convert(timm.create_model(name, num_classes=3), word, **options)
        assert made(torch.randn(2, 3, 64, 64)).isfinite().all(), word
        assert word in ("batch",) or not any(type(m) is nn.BatchNorm2d for m in made.modules() if is_norm(m))


def test_a_fused_activation_survives_a_second_conversion():
    parent, x = nn.Sequential(BatchNormAct2d(4, act_layer=nn.SiLU)), torch.randn(2, 4, 3, 3)
    expected = copy.deepcopy(parent)(x)
    convert(parent, "batch")
    SyncNorms().apply(parent)  # norm=batch trainer.sync_batchnorm=true
    assert type(parent[0]) is SyncBatchNorm
    torch.testing.assert_close(parent(x), expected)


def test_layers_without_scale_stay_in_their_type_and_ranks_in_their_group():
    converted = convert(nn.BatchNorm2d(4, affine=False).double(), "sync_batch")
    assert converted.running_var.dtype == torch.float64
    assert convert(nn.BatchNorm2d(4, affine=False, device="meta"), "switchable").running_var.is_meta
    group = object()
    assert convert(SyncBatchNorm(4, process_group=group), "sync_batch").process_group is group


def test_what_is_frozen_stays_so_with_all_that_the_new_layer_has():
    frozen = convert(nn.Sequential(nn.BatchNorm2d(4).requires_grad_(False), nn.BatchNorm2d(4)), "switchable")
    assert len(list(frozen[0].parameters())) > 2
    assert not any(parameter.requires_grad for parameter in frozen[0].parameters())
    assert all(parameter.requires_grad for parameter in frozen[1].parameters())


def test_convolutions_stay_shared_and_frozen():
    shared = nn.Conv2d(4, 4, 3).requires_grad_(False)
    parent = convert(nn.ModuleDict({"a": shared, "norm": nn.BatchNorm2d(4), "b": shared}), "mabn", B=2)
    assert type(parent["a"]) is CenConv2d
    assert parent["a"] is parent["b"]
    assert parent["a"].weight is shared.weight
    assert not parent["a"].weight.requires_grad
