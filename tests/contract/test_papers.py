"""What every paper must do; the table has one row for each, and a paper without one fails at collection.

Composes, builds, trains two steps, every parameter gets a gradient, a checkpoint loads with ``weights_only=True``
and gives the same outputs, a run resumes equal, counts match the card.
"""

import copy
import signal
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from interruption import stopped_by

from paperzoo import accounting, cards
from paperzoo.config import compose, dump, load_config
from paperzoo.config.messages import CONF
from paperzoo.config.schema import Config
from paperzoo.data.images.module import ImageData
from paperzoo.errors import Interrupted, UserError
from paperzoo.machine import make_trainer
from paperzoo.networks.official import classifier_name
from paperzoo.runs import checkpoints, compare, record
from paperzoo.tasks.classification import Classification
from paperzoo.training import load_data, make_module, train

FAST = [
    "trainer=cpu",
    "trainer.max_epochs=1",
    "logger=none",
    "data.limit_train=64",
    "data.batch_size=16",
    "data.validation=50",
    "data.test=50",
]


@dataclass(frozen=True)
class Row:
    """How a paper is tried: the overrides that make it small, the option that must change its outputs, its layers."""

    small: list[str] = field(default_factory=list)
    matters: str = ""
    normalises: bool = True  # whether its network has layers that norm= replaces


PAPERS = {
    "resnet": Row(["model.depth=11", "model.width=4"], "model.width=8"),
    "resnext": Row(["model.depth=11", "model.width=8"], "model.cardinality=2"),
    "res2net": Row(["model.depth=11", "model.width=8"], "model.scale=2"),
    "scnet": Row(["model.depth=11", "model.width=8"], "model.pooling_rate=2"),
    "senet": Row(["model.depth=11", "model.width=8"], "model.reduction=4"),
    "mobilenet_v1": Row(["model.multiplier=0.25"], "model.shallow=true"),
    "mobilenet_v2": Row(["model.multiplier=0.25"], "model.linear=false"),
    "squeezenet": Row(matters="model.bypass=true", normalises=False),
    "nasnet": Row(["model.filters=4", "model.keep=0.9"], "model.cells=2"),
    "group_norm": Row(["model.depth=11", "model.width=8"], "model.groups=2"),
    "switchable_norm": Row(["model.depth=11", "model.width=4"], "model.using_bn=false"),
    "mabn": Row(["model.depth=11", "model.width=4"], "norm=group"),
    "sync_batch_norm": Row(["model.depth=11", "model.width=4"], "norm=group"),
    "shufflenet_v1": Row(["model.depth=20", "model.width=6"], "model.shuffle=false"),
    "shufflenet_v2": Row(["model.depth=20", "model.width=4"], "model.width=6"),
    "strip_pooling": Row(["model.depth=11", "model.width=8"], "model.spm=none"),
}

assert set(PAPERS) == set(cards.slugs()), (
    f"rows {sorted(PAPERS)}, papers {cards.slugs()}: every paper needs one row here"
)


@pytest.fixture(params=PAPERS)
def paper(request) -> str:
    return request.param


def configured(paper: str, *extra: str, runs: Path | None = None) -> Config:
    words = [f"model={paper}", *FAST, *PAPERS[paper].small, *extra]
    return compose("train", words + ([f"paths.runs_dir={runs}"] if runs else []))


@pytest.fixture(scope="module")
def data() -> ImageData:
    return load_data(configured("resnet"))


def test_configuration_survives_the_record(paper):
    config = configured(paper)
    assert load_config(dump(config)) == config


def test_every_parameter_gets_a_gradient_and_it_is_the_losses_slope(paper, data):
    """Not luck: in float64, the loss falls along the gradient as fast as the gradient says, on any processor."""
    module = make_module(configured(paper, "trainer.precision=64-true"), data)
    pixels, labels = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    images, labels = pixels[:32].double(), labels[:32]

    def loss_of(moved: Classification) -> torch.Tensor:
        torch.manual_seed(0)  # what is drawn (dropped paths) is drawn alike: each evaluation is of the same function
        return moved.loss(moved(images), labels)

    before = copy.deepcopy(module)  # layers keep statistics of what they have seen
    loss_of(module).backward()
    gradients = {name: parameter.grad for name, parameter in module.named_parameters()}
    without = [name for name, gradient in gradients.items() if gradient is None or not gradient.abs().sum() > 0]
    assert not without, f"no gradient: {without}"
    square = sum(float(gradient.pow(2).sum()) for gradient in gradients.values() if gradient is not None)
    step, sides = 1e-7 / square**0.5, []
    for sign in (1, -1):
        moved = copy.deepcopy(before)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                parameter.sub_(sign * step * gradients[name])
            sides.append(float(loss_of(moved)))
    slope = (sides[1] - sides[0]) / (2 * step * square)
    assert slope == pytest.approx(1, abs=0.1)  # MABN: its backward is an estimate (0.95)


def test_weights_are_a_function_of_the_seed(paper, data):
    first, again, other = (make_module(configured(paper, f"seed={seed}"), data).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    drawn = [name for name, value in first.items() if value.dim() > 1 and value.std() > 0]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_the_option_of_its_ablation_matters(paper, data):
    images, _ = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    outputs = []
    for extra in ([], [PAPERS[paper].matters]):
        module = make_module(configured(paper, *extra), data).eval()
        with torch.no_grad():
            outputs.append(module(images))
    assert not torch.allclose(*outputs)


def test_composes_with_every_norm(paper, data):
    images, labels = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    for word in sorted(path.stem for path in (CONF / "norm").glob("*.yaml")):
        config = configured(paper, f"norm={word}")
        if not PAPERS[paper].normalises and word != "paper":
            with pytest.raises(UserError, match="has no normalisation layers to replace; use norm=paper"):
                make_module(config, data)
            continue
        module = make_module(config, data)
        module.loss(module(images[:16]), labels[:16]).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters()), word


def test_checkpoint_is_plain_data_and_gives_the_same_outputs(paper, data, tmp_path):
    config = configured(paper)
    module = make_module(config, data)
    trainer = make_trainer(config)
    trainer.fit(module, datamodule=load_data(config))
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path, weights_only=True)
    content = checkpoints.load(path)
    again = type(module)(**content["hyper_parameters"])
    again.load_state_dict(content["state_dict"])
    images, _ = data.on_after_batch_transfer(next(iter(data.val_dataloader())), 0)
    with torch.no_grad():
        assert torch.equal(module.eval()(images), again.eval()(images))


def test_default_network_has_the_counts_of_its_card(paper):
    card = cards.load(paper)
    config = compose("train", [f"model={paper}"])
    network = card.network(config.model.network)
    assert network is not None
    module = make_module(config, _shape_of(network.input_size[0]))
    counted = accounting.count(module.network, network.input_size)
    assert counted.parameters == network.parameters
    assert counted.macs == pytest.approx(network.macs, rel=0.01)


def _shape_of(in_chans: int) -> ImageData:
    data = ImageData(compose("train", ["model=resnet"]).data)
    data.num_classes, data.in_chans = 10, in_chans
    return data


def test_resumes_equal(paper, tmp_path):
    """SIGTERM in the middle of an epoch; resume=auto goes on; weights and metrics equal the run left alone."""
    alone = train(configured(paper, "trainer.max_epochs=2", runs=tmp_path / "alone"))
    words = ["trainer.max_epochs=2", "resume=auto"]
    with stopped_by(signal.SIGTERM, after_steps=6), pytest.raises(Interrupted) as stop:
        train(configured(paper, *words, runs=tmp_path / "stopped"))
    assert stop.value.exit_code == 143
    (folder,) = (tmp_path / "stopped").glob(f"{paper}/*/1")
    assert record.read(folder).status == "interrupted"
    resumed = train(configured(paper, *words, runs=tmp_path / "stopped"))
    assert [segment.from_step for segment in resumed.segments] == [0, 6]
    assert resumed.id == alone.id
    assert compare.first_difference(alone, resumed) is None
    weights = [checkpoints.load(root / paper / alone.identity / "1" / "checkpoints" / "last.ckpt")["state_dict"]
               for root in (tmp_path / "alone", tmp_path / "stopped")]  # fmt: skip
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_official_weights_are_loaded_by_override_and_the_classifier_fits_the_data(paper, data, tmp_path):
    options = [f"data.in_chans={data.in_chans}"]
    donor = make_module(configured(paper, "seed=9", *options), data)
    donor.network.reset_classifier(1000)
    torch.save({"state_dict": {f"module.{k}": v for k, v in donor.network.state_dict().items()}}, tmp_path / "w.pth")
    module = make_module(configured(paper, f"model.checkpoint={tmp_path / 'w.pth'}", *options), data)
    own, given = module.network.state_dict(), donor.network.state_dict()
    last = classifier_name(module.network)
    assert len(own[f"{last}.weight"]) == 10
    assert all(torch.equal(own[name], given[name]) for name in own if not name.startswith(f"{last}."))
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="the weights do not fit this network"):
        make_module(configured(paper, f"model.checkpoint={tmp_path / 'w.pth'}", *options), data)
