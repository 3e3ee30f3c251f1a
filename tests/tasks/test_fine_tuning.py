"""Fine-tuning: what is frozen does not change by a bit, rates are those that are stated, the parent is on record."""

import random
import shutil

import pytest
import timm
import torch
from composed import compose
from torch import nn

from paperzoo.config.schema import Optimizer
from paperzoo.errors import UserError
from paperzoo.papers import scnet  # noqa: F401 (it registers its networks)
from paperzoo.runs import checkpoints, compare, folders
from paperzoo.tasks import optimizers
from paperzoo.tasks.freezing import freeze
from paperzoo.training import load_data, make_module, train

SMALL = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=64", "data.batch_size=16",
         "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=2", "trainer.threads=1",
         "logger=none"]  # fmt: skip


def state(runs, entry):
    return checkpoints.load(folders.find(runs, entry.id) / "checkpoints" / "last.ckpt")["state_dict"]


@pytest.fixture(scope="module")
def parent(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return train(compose("train", [*SMALL, f"paths.runs_dir={runs}"])), runs


def test_what_is_frozen_changes_by_no_bit_and_the_rest_is_trained(parent):
    first, runs = parent
    words = [*SMALL, "seed=1", f"model.checkpoint=run:{first.id}", "model.freeze=[conv1,bn1,layer1,layer2.*.bn?]",
             "optimizer.weight_decay=0.1", f"paths.runs_dir={runs}"]  # fmt: skip
    second = train(compose("train", words))
    before, after = state(runs, first), state(runs, second)
    frozen = [n for n in before if n.startswith(("network.conv1", "network.bn1", "network.layer1"))
              or (n.startswith("network.layer2") and ".bn" in n)]  # fmt: skip
    assert any(n.endswith("running_mean") for n in frozen)
    assert any(n.endswith("num_batches_tracked") for n in frozen)
    for name in frozen:
        assert torch.equal(before[name], after[name]), name
    for name in set(before) - set(frozen):
        if name.startswith("network.") and before[name].is_floating_point():
            assert not torch.equal(before[name], after[name]), name
    assert [(p.id, p.weights) for p in second.parents] == [(first.id, "last")]
    assert second.identity != first.identity


def test_a_head_of_other_classes_is_made_anew_and_named(parent, tmp_path, capsys):
    from drawn import folder

    first, runs = parent
    root = folder(tmp_path / "x", each=30, size=(28, 28))
    words = [*SMALL[:3], *SMALL[7:], "data=image_folder", f"data.root={root}", "data.in_chans=1", "data.batch_size=16",
             "data.validation=10", "data.test=10", "optimizer.lr=1e-9", f"model.checkpoint=run:{first.id}",
             f"paths.runs_dir={runs}"]  # fmt: skip
    second = train(compose("train", words))
    assert "new weights, drawn at random: fc, a classifier of 2 classes in place of 10\n" in capsys.readouterr().out
    before, after = state(runs, first), state(runs, second)
    assert after["network.fc.weight"].shape == (2, 64)
    assert before["network.fc.weight"].shape == (10, 64)
    torch.testing.assert_close(before["network.conv1.weight"], after["network.conv1.weight"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kills", [2, pytest.param(5, marks=pytest.mark.full)])
def test_a_run_with_frozen_parts_resumes_bit_for_bit(parent, kills, tmp_path):
    """Killed after random steps of its eight, each time another attempt."""
    from interruption import Died, dying_at

    first, parents = parent
    runs = shutil.copytree(parents, tmp_path / "runs")
    words = [*SMALL, "seed=2", f"model.checkpoint=run:{first.id}", "model.freeze=[conv1,bn1,layer1]",
             "optimizer.layer_decay=0.5", "checkpoint.every_steps=1"]  # fmt: skip
    whole = train(compose("train", [*words, f"paths.runs_dir={runs}"]))
    for step in random.Random(kills).sample(range(1, 9), k=kills):
        with pytest.raises(Died), dying_at(step):
            train(compose("train", [*words, "tags=[killed]", f"paths.runs_dir={runs}"]))
        again = train(compose("train", [*words, "resume=auto", f"paths.runs_dir={runs}"]))
        assert len(again.segments) == 2
        assert compare.first_difference(whole, again) is None


def test_statistics_stay_when_lightning_puts_the_module_into_training_mode(parent):
    config = compose("train", [*SMALL, "model.freeze=['*bn*']"])
    module = make_module(config, load_data(config))
    module.train()
    for name, layer in module.network.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert layer.training == ("bn" not in name), name  # shortcuts' norms are numbered, not named
    assert module.network.training
    module.eval()
    assert not module.network.training


@pytest.mark.parametrize(("patterns", "line"), [
    (["layer9"], "model.freeze=layer9: matches no module and no parameter; the network has conv1, bn1, layer1"),
    (["*"], "leaves nothing to train"),
])  # fmt: skip
def test_patterns_that_cannot_be_meant_are_refused(patterns, line):
    network = timm.create_model("scnet_small", in_chans=1)
    with pytest.raises(UserError) as error:
        freeze(network, patterns)
    assert line in str(error.value)


def test_a_parameter_can_be_frozen_by_itself():
    network = timm.create_model("scnet_small", in_chans=1)
    assert freeze(network, ["*.bias"]) == []
    assert {name.rpartition(".")[2] for name, p in network.named_parameters() if not p.requires_grad} == {"bias"}
    assert network.bn1.training


def rates(network, **options):
    """The rate and the decay of each parameter, from the optimiser's groups."""
    choice = Optimizer(name="sgd", target="torch.optim.SGD", lr=0.1, weight_decay=0.02, **options)
    names = {id(p): name for name, p in network.named_parameters()}
    made = optimizers.make(network, choice)
    return {names[id(p)]: (g["lr"], g["weight_decay"]) for g in made.param_groups for p in g["params"]}, made


def test_layer_decay_gives_the_rates_that_a_hand_calculation_gives():
    """Three layers of blocks, a stem below and a head above: lr * d ** (distance from the head)."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv2d(1, 2, 3)
            self.blocks = nn.Sequential(*(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)) for _ in range(3)))
            self.head = nn.Linear(2, 3)

        def group_matcher(self, coarse=False):
            return {"stem": r"^stem", "blocks": r"^blocks\.(\d+)"}

    got, made = rates(Net(), layer_decay=0.5, decay_norms_and_biases=False)
    expected = {"stem": 0.1 / 16, "blocks.0": 0.1 / 8, "blocks.1": 0.1 / 4, "blocks.2": 0.1 / 2, "head": 0.1}
    for name, (rate, decay) in got.items():
        place = next(key for key in expected if name.startswith(key))
        assert rate == pytest.approx(expected[place], rel=1e-12), name
        is_kernel = name.endswith("weight") and ".1." not in f"{name.removeprefix(place)}"
        assert decay == (0.02 if is_kernel else 0.0), name
    assert made.param_groups[0]["lr"] == 0.1  # the one that is logged
    assert len(got) == len(list(Net().parameters()))


def test_factors_by_name_multiply_and_what_is_frozen_has_no_rate():
    network = timm.create_model("scnet_small", in_chans=1)
    freeze(network, ["conv1", "bn1"])
    got, _ = rates(network, lr_factors={"layer1*": 0.1, "*.bias": 2.0, "fc*": 0.0})
    assert not [name for name in got if name.startswith(("conv1", "bn1"))]
    assert got["layer1.0.conv1_a.weight"][0] == pytest.approx(0.01)
    assert got["layer1.0.bn1_a.bias"][0] == pytest.approx(0.02)
    assert got["layer2.0.bn1_a.bias"][0] == pytest.approx(0.2)
    assert got["layer3.0.conv1_a.weight"][0] == pytest.approx(0.1)
    assert got["fc.weight"] == (0.0, 0.02)
    with pytest.raises(UserError, match=r"optimizer.lr_factors={conv1:0.5}: matches no parameter that is trained"):
        rates(network, lr_factors={"conv1": 0.5})


def test_the_schedule_scales_every_group(parent):
    """A step of the run moves each group by its own rate: a rate of zero moves nothing."""
    first, runs = parent
    words = [*SMALL, "seed=3", f"model.checkpoint=run:{first.id}", "optimizer.lr_factors={layer1.*:0.0}",
             "optimizer.weight_decay=0", f"paths.runs_dir={runs}"]  # fmt: skip
    second = train(compose("train", words))
    names = [n for n, _ in timm.create_model("resnet_small", depth=11, width=4, in_chans=1).named_parameters()]
    before, after = state(runs, first), state(runs, second)
    for name in names:
        assert torch.equal(before[f"network.{name}"], after[f"network.{name}"]) == name.startswith("layer1."), name
    assert second.epochs[0]["lr"] > 0.01


@pytest.mark.parametrize(
    "opt", ["lamb", *(pytest.param(name, marks=pytest.mark.full) for name in ("lion", "nadamw", "rmsproptf"))]
)
def test_timms_optimisers_step_as_timm_makes_them_and_resume_bit_for_bit(opt, tmp_path):
    from interruption import Died, dying_at
    from timm.optim import create_optimizer_v2

    torch.manual_seed(0)
    ours, theirs = (timm.create_model("scnet_small", in_chans=1) for _ in range(2))
    theirs.load_state_dict(ours.state_dict())
    target = "paperzoo.tasks.optimizers.from_timm"
    choice = Optimizer(name="timm", target=target, lr=0.01, weight_decay=0.1, decay_norms_and_biases=False, opt=opt)
    pairs = [
        (ours, optimizers.make(ours, choice)),
        (theirs, create_optimizer_v2(theirs, opt, lr=0.01, weight_decay=0.1)),
    ]
    images = torch.randn(4, 1, 28, 28)
    for network, optimizer in pairs:
        for _ in range(3):
            optimizer.zero_grad()
            network(images).square().mean().backward()
            optimizer.step()
    for (name, one), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6, msg=name)

    words = [*SMALL, "optimizer=timm", f"optimizer.opt={opt}", "optimizer.lr=0.001", "checkpoint.every_steps=1",
             f"paths.runs_dir={tmp_path}"]  # fmt: skip
    whole = train(compose("train", words))
    with pytest.raises(Died), dying_at(5):
        train(compose("train", words))
    again = train(compose("train", [*words, "resume=auto"]))
    assert len(again.segments) == 2
    assert compare.first_difference(whole, again) is None


@pytest.mark.parametrize(("words", "line"), [
    (["optimizer.opt=lam"], "optimizer.opt=lam: there is no such optimiser; timm has "),
    (["optimizer.opt=lookahead_lamb"], "optimizer.opt=lookahead_lamb: there is no such optimiser"),
    (["optimizer.opt=adahessian"], "needs second derivatives"),
    (["optimizer.opt=lion", "optimizer.eps=1e-8"], "optimizer.eps=1e-08: lion has no eps; leave it null"),
])  # fmt: skip
def test_optimisers_that_cannot_be_are_refused_before_there_is_a_run(words, line, tmp_path):
    with pytest.raises(UserError) as error:
        train(compose("train", [*SMALL, "optimizer=timm", *words, f"paths.runs_dir={tmp_path}"]))
    assert line in str(error.value)
    assert not list(tmp_path.rglob("run.json"))


def test_freeze_is_an_option_of_every_model_on_the_command_line():
    assert compose("train", ["model=scnet", "model.freeze=[conv1,layer1.*]"]).model.freeze == ["conv1", "layer1.*"]
    assert compose("train", ["model=scnet"]).model.freeze is None
    for words, line in (
        (["model=scnet", "model.freeze=conv1"], "model.freeze=conv1: must be a list such as [a,b]"),
        (["model.freeze=[conv1]"], "model must be given, e.g. model=scnet"),
        (["model=scnet", "optimizer.layer_decay=0"], "optimizer.layer_decay=0: must be greater than 0"),
        (["model=scnet", "optimizer.lr_factors={a:-1}"], "must be at least 0"),
    ):
        with pytest.raises(UserError) as error:
            compose("train", words)
        assert line in str(error.value)
