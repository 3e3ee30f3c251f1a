"""What every paper must do; its row is ``contract.yaml`` in its folder (tests/helpers/contract.py).

Composes, builds, every parameter gets a gradient that is the loss's slope, equal weights for equal seeds, a run
resumes equal, its checkpoint loads with ``weights_only=True`` and gives the same losses, counts match the card, the
golden losses of three steps are what they were.
"""

import copy
import signal
from pathlib import Path

import pytest
import torch
from composed import compose
from contract import batch_of, configured, equal_state, golden_losses, loss_of, papers, row
from interruption import stopped_by

from paperzoo import accounting, cards
from paperzoo.config import dump, load_config
from paperzoo.config.schema import Config
from paperzoo.data.interface import RunData, make_data
from paperzoo.errors import Interrupted, UserError
from paperzoo.networks.official import classifier_name
from paperzoo.runs import checkpoints, compare, record
from paperzoo.runs.record import Record
from paperzoo.tasks.making import make_module
from paperzoo.tasks.task import Task
from paperzoo.training import train


@pytest.fixture(scope="session", params=papers())
def paper(request) -> str:
    return request.param


@pytest.fixture(scope="session")
def data(paper) -> RunData:
    return make_data(configured(paper))


@pytest.fixture(scope="session")
def alone(paper, tmp_path_factory) -> tuple[Record, Path]:
    """Two epochs, left alone: the record and the folder of runs."""
    runs = tmp_path_factory.mktemp(paper)
    entry = train(configured(paper, "trainer.max_epochs=2", runs=runs))
    assert entry is not None
    return entry, runs


def made(config: Config, data: RunData) -> Task:
    return make_module(config, data)


def test_configuration_survives_the_record(paper):
    config = configured(paper)
    assert load_config(dump(config)) == config


def test_every_parameter_gets_a_gradient_and_it_is_the_losses_slope(paper, data):
    """Not luck: in float64, the loss falls along the gradient as fast as the gradient says, on any processor."""
    module = made(configured(paper, "trainer.precision=64-true"), data)
    batch = batch_of(data, torch.float64)
    before = copy.deepcopy(module)  # layers keep statistics of what they have seen
    loss_of(module, batch).backward()
    gradients = {name: p.grad for name, p in module.named_parameters() if p.requires_grad}
    without = [name for name, gradient in gradients.items() if gradient is None or not gradient.abs().sum() > 0]
    assert not without, f"no gradient: {without}"
    square = sum(float(gradient.pow(2).sum()) for gradient in gradients.values())
    step, sides = 1e-7 / square**0.5, []
    for sign in (1, -1):
        moved = copy.deepcopy(before)
        with torch.no_grad():
            for name, parameter in moved.named_parameters():
                if name in gradients:
                    parameter.sub_(sign * step * gradients[name])
            sides.append(float(loss_of(moved, batch)))
    slope = (sides[1] - sides[0]) / (2 * step * square)
    assert slope == pytest.approx(1, abs=0.1)  # MABN: its backward is an estimate (0.95)


def test_weights_are_a_function_of_the_seed(paper, data):
    first, again, other = (made(configured(paper, f"seed={seed}"), data).state_dict() for seed in (0, 0, 1))
    assert equal_state(first, again)
    drawn = [name for name, value in first.items() if value.dim() > 1 and value.is_floating_point() and value.std() > 0]
    assert drawn
    assert not any(torch.equal(first[name], other[name]) for name in drawn)


def test_the_option_of_its_ablation_matters(paper, data):
    batch = batch_of(data)
    losses = []
    for extra in ([], [row(paper).matters]):
        config = configured(paper, *extra)
        losses.append(float(loss_of(made(config, data if not extra else make_data(config)), batch).detach()))
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_checkpoint_is_plain_data_and_gives_the_same_losses(paper, data, alone):
    entry, runs = alone
    content = checkpoints.load(runs / paper / entry.identity / "1" / entry.checkpoints["last"])
    batch, losses = batch_of(data), []
    for _ in range(2):
        module = type(made(configured(paper), data))(**content["hyper_parameters"])
        module.load_state_dict(content["state_dict"])
        losses.append(loss_of(module, batch))
    assert losses[0].isfinite()
    assert torch.equal(*losses)


def test_default_network_has_the_counts_of_its_card(paper):
    card = cards.load(paper)
    words = [f"model={paper}"]
    network = card.network(compose("train", words).model.network)
    if network is None:
        assert not card.networks  # a loss, a recipe: what it is tried on is another paper's
        return
    if len(network.input_size) == 3:
        words.append(f"data.in_chans={network.input_size[0]}")
    words += [word for word in row(paper).data if word.startswith("data.images=")]  # that are drawn
    config = compose("train", words)
    data = make_data(config)
    module = make_module(config, data)
    inputs = module.example_inputs(data)
    counted = accounting.count_inputs(module.network, inputs)
    assert counted.parameters == network.parameters
    assert counted.macs == pytest.approx(network.macs, rel=0.01)


def test_resumes_equal(paper, alone, tmp_path):
    """SIGTERM in the middle of an epoch; resume=auto goes on; weights and metrics equal the run left alone."""
    entry, runs = alone
    steps = max(int(entry.epochs[0]["step"]) + 1, 2)
    words = ["trainer.max_epochs=2", "resume=auto"]
    with stopped_by(signal.SIGTERM, after_steps=steps), pytest.raises(Interrupted) as stop:
        train(configured(paper, *words, runs=tmp_path))
    assert stop.value.exit_code == 143
    (folder,) = tmp_path.glob(f"{paper}/*/1")
    assert record.read(folder).status == "interrupted"
    resumed = train(configured(paper, *words, runs=tmp_path))
    assert [segment.from_step for segment in resumed.segments] == [0, steps]
    assert resumed.id == entry.id
    assert compare.first_difference(entry, resumed) is None
    last = [
        checkpoints.load(root / paper / entry.identity / "1" / "checkpoints" / "last.ckpt") for root in (runs, tmp_path)
    ]
    assert equal_state(last[0]["state_dict"], last[1]["state_dict"])


@pytest.mark.promise
def test_golden_losses_are_what_they_were(paper, tmp_path):
    """A change of what all papers share leaves them alone; tests/contract/golden.py writes those that are meant."""
    losses = golden_losses(paper, tmp_path)
    assert len(losses) == 3
    assert losses == pytest.approx(row(paper).golden, rel=row(paper).tolerance)


def test_official_weights_are_loaded_by_override_and_the_classifier_fits_the_data(paper, data, tmp_path):
    options = [f"data.in_chans={data.info['in_chans']}"] if "in_chans" in data.info else []
    donor = made(configured(paper, "seed=9", *options), data)
    if not hasattr(donor.network, "reset_classifier"):
        return
    donor.network.reset_classifier(1000)
    weights = {"state_dict": {f"module.{k}": v for k, v in donor.network.state_dict().items()}}
    config = configured(paper, *options)
    module = make_module(config, data, weights)
    own, given = module.network.state_dict(), donor.network.state_dict()
    last = classifier_name(module.network)
    assert len(own[f"{last}.weight"]) == data.info["num_classes"]
    assert all(torch.equal(own[name], given[name]) for name in own if not name.startswith(f"{last}."))
    with pytest.raises(UserError, match="the weights do not fit this network"):
        make_module(config, data, {"state_dict": {"conv1.weight": torch.zeros(1)}})
