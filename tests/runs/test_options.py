"""Moving average, early stopping, limits, a trial run, profiler and table of layers: what they do, and kills."""

import json
import signal

import pytest
import torch
from composed import compose
from interruption import stopped_by
from torch import nn

from paperzoo.errors import Interrupted, UserError
from paperzoo.procedures.early_stopping import EarlyStopping
from paperzoo.procedures.moving_average import MovingAverage
from paperzoo.runs import checkpoints, compare
from paperzoo.training import train

WORDS = ["model=resnet", "model.depth=11", "model.width=2", "data.image_size=8", "trainer=cpu", "logger=none"]
WORDS += ["data.limit_train=96", "data.batch_size=16", "data.validation=50", "data.test=50", "trainer.max_epochs=4"]
WORDS += ["optimizer.lr=0.02", "scheduler.warmup_epochs=0"]


def run(tmp_path, *more):
    entry = train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path}", *more]))
    assert entry is not None
    return entry, tmp_path / "resnet" / entry.identity / str(entry.attempt)


def weights(folder, name):
    return checkpoints.load(folder / "checkpoints" / name)["state_dict"]


class Trainer:
    """What the average asks Lightning's trainer."""

    world_size = 1

    def __init__(self) -> None:
        self.global_step = 0


class Module:
    """What the average asks a task."""

    has_rank_buffers = False

    def __init__(self) -> None:
        self.network = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()


@pytest.mark.parametrize("every", [1, 3])
def test_the_average_equals_a_naive_loop(every):
    trainer, module = Trainer(), Module()
    average = MovingAverage(decay=0.8, every_n_steps=every)
    average.on_train_start(trainer, module)
    expected = None
    for step in range(1, 10):
        with torch.no_grad():
            for parameter in module.network.parameters():
                parameter.add_(torch.randn_like(parameter))
        module.network(torch.randn(4, 3, dtype=torch.float64))  # moves the running statistics
        average.on_train_batch_end(trainer, module, None, None, 0)  # gradients are accumulated: no step yet
        trainer.global_step = step
        average.on_train_batch_end(trainer, module, None, None, 0)
        if step % every == 0:
            now = {name: value.tolist() for name, value in module.network.state_dict().items() if value.ndim}
            expected = now if expected is None else {name: mixed(expected[name], now[name]) for name in now}
    before = {name: value.clone() for name, value in module.network.state_dict().items()}
    with average.applied(module.network):
        got = module.network.state_dict()
        for name, value in expected.items():
            assert torch.allclose(got[name], torch.tensor(value, dtype=torch.float64), rtol=1e-12, atol=0)
    for name, value in before.items():
        assert torch.equal(module.network.state_dict()[name], value)


def mixed(old, new):
    """0.8 old + 0.2 new, of nested lists."""
    if isinstance(old, list):
        return [mixed(a, b) for a, b in zip(old, new, strict=True)]
    return 0.8 * old + 0.2 * new


def test_statistics_of_each_rank_are_refused():
    trainer, module = Trainer(), Module()
    trainer.world_size, module.has_rank_buffers = 2, True
    with pytest.raises(UserError, match="use one rank"):
        MovingAverage().on_train_start(trainer, module)


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A run with an average, left alone."""
    return run(tmp_path_factory.mktemp("averaged"), "average=moving", "average.decay=0.7")


@pytest.mark.full
def test_last_and_best_weights_are_averages_and_training_is_as_without(averaged, tmp_path):
    entry, folder = averaged
    plain, other = run(tmp_path)
    assert [row["train/loss"] for row in entry.epochs] == [row["train/loss"] for row in plain.epochs]
    assert [row["val/loss"] for row in entry.epochs] != [row["val/loss"] for row in plain.epochs]
    one, two = weights(folder, "last.ckpt"), weights(other, "last.ckpt")
    assert not torch.equal(one["network.conv1.weight"], two["network.conv1.weight"])


@pytest.mark.full
@pytest.mark.parametrize("steps", [1, 6, 15, 24])
def test_an_interrupted_average_goes_on(averaged, steps, tmp_path):
    entry, folder = averaged
    more = ("average=moving", "average.decay=0.7")
    with stopped_by(signal.SIGTERM, after_steps=steps), pytest.raises(Interrupted):
        run(tmp_path, *more)
    again, other = run(tmp_path, *more, "resume=auto")
    assert compare.first_difference(entry, again) is None
    for name in ("last.ckpt", "best.ckpt"):
        one, two = weights(folder, name), weights(other, name)
        assert all(torch.equal(one[key], two[key]) for key in one)


STOPPING = ("stopping=early", "stopping.patience=1", "stopping.min_delta=0.99")  # nothing is so much better


@pytest.mark.full
def test_early_stopping_stops_and_says_why(tmp_path, capsys):
    entry, _ = run(tmp_path, *STOPPING)
    assert len(entry.epochs) == 2
    assert entry.status == "finished"
    assert "stopped after epoch 2: val/top1 has not been better than" in capsys.readouterr().out


@pytest.mark.full
@pytest.mark.parametrize("steps", [3, 9, 12])
def test_an_interrupted_early_stop_is_the_same(steps, tmp_path):
    entry, _ = run(tmp_path / "alone", *STOPPING)
    with stopped_by(signal.SIGTERM, after_steps=steps), pytest.raises(Interrupted):
        run(tmp_path / "killed", *STOPPING)
    again, _ = run(tmp_path / "killed", *STOPPING, "resume=auto")
    assert compare.first_difference(entry, again) is None
    assert len(again.epochs) == 2


@pytest.mark.parametrize(("goal", "values", "stops"), [("max", [1, 3, 2, 3, 4], 4), ("min", [3, 2, 2.5, 2, 1], 4)])
def test_patience_counts_validations(goal, values, stops):
    stopping = EarlyStopping("x", goal, patience=2)

    class State:
        should_stop, current_epoch = False, 0

    class Validated:
        def __init__(self) -> None:
            self.results: dict[str, dict[str, float]] = {}

    state, module = State(), Validated()
    for epoch, value in enumerate(values, 1):
        state.current_epoch = epoch - 1
        module.results = {}
        stopping.on_train_epoch_end(state, module)  # an epoch without validation counts for nothing
        module.results = {"val": {"x": float(value)}}
        stopping.on_train_epoch_end(state, module)
        if state.should_stop:
            break
    assert epoch == stops == stopping.stopped_epoch
    assert str(stopping.said()).startswith(f"stopped after epoch {stops}")


@pytest.mark.full
def test_limits_and_rare_validation(tmp_path):
    entry, _ = run(
        tmp_path, "trainer.limit_train_batches=2", "trainer.limit_val_batches=1", "trainer.check_val_every_n_epoch=2"
    )
    assert [row["step"] for row in entry.epochs] == [2, 4, 6, 8]
    assert ["val/top1" in row for row in entry.epochs] == [False, True, False, True]
    assert entry.results["best"].epoch in (2, 4)
    with pytest.raises(UserError, match="must be a multiple of it"):
        compose("train", [*WORDS, "trainer.check_val_every_n_epoch=3"])
    with pytest.raises(UserError, match=r"limit_val_batches=1.5: must be a number of batches, at least 1, or a share"):
        compose("train", [*WORDS, "trainer.limit_val_batches=1.5"])
    with pytest.raises(UserError, match=r"trainer.limit_test_batches=0.01: is less than one of \d+ batches"):
        run(tmp_path, "trainer.limit_test_batches=0.01")


@pytest.mark.full
def test_a_trial_run_is_one_batch_of_each(tmp_path, capsys):
    more = ("trainer.fast_dev_run=true", "trainer.summary=1", "trainer.profiler=simple", "scheduler=step")
    entry, folder = run(tmp_path, *more)
    assert [row["step"] for row in entry.epochs] == [1]
    said = capsys.readouterr().out
    assert "only a part of the data, in batches: train 1, val 1, test 1" in said
    assert "| network" in said
    assert "run_training_epoch" in (folder / "profile.txt").read_text()
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"
