"""Moving average, early stopping, limits, a trial run, profiler and table of layers: what they do, and kills."""

import json
import signal

import pytest
import torch
from composed import compose
from interruption import stopped_by
from torch import nn

from paperzoo import machine
from paperzoo.errors import Interrupted, UserError
from paperzoo.procedures.early_stopping import EarlyStopping
from paperzoo.procedures.moving_average import MovingAverage
from paperzoo.runs import checkpoints, compare, identity
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
    assert "flops" not in said.lower()  # none are counted: Lightning would say 0
    assert "run_training_epoch" in (folder / "profile.txt").read_text()
    assert json.loads((folder / "run.json").read_text())["status"] == "finished"


WITHIN = ("trainer.val_check_interval=4", "trainer.max_epochs=3", "checkpoint.every_steps=1")
PLATEAU = ("scheduler=plateau", "scheduler.patience=0", "scheduler.factor=0.5")


@pytest.fixture(scope="module")
def within(tmp_path_factory):
    """A run of 6 batches an epoch that is validated after the fourth, too, left alone."""
    return run(tmp_path_factory.mktemp("within"), *WITHIN, *PLATEAU)


def test_validations_within_epochs_have_rows_and_choose_and_move_the_plateau(within):
    entry, folder = within
    assert [(row["epoch"], row["step"]) for row in entry.epochs] == [
        (0.666667, 4), (1, 6), (1.666667, 10), (2, 12), (2.666667, 16), (3, 18)
    ]  # fmt: skip
    assert ["train/loss" in row for row in entry.epochs] == [False, True] * 3
    assert [row["epoch"] for row in entry.whole_epochs] == [1, 2, 3]
    values = [row["val/top1"] for row in entry.epochs]
    best = entry.epochs[values.index(max(values))]
    result = entry.results["best"]
    assert (result.epoch, result.step, result.metrics["val/top1"]) == (best["epoch"], best["step"], max(values))
    assert checkpoints.load(folder / "checkpoints" / "best.ckpt")["global_step"] == result.step
    scale, top = 1.0, -1.0
    for row in entry.epochs:  # patience 0: each validation that is no better halves the rate of what comes
        assert row["lr"] == pytest.approx(0.02 * scale)
        scale, top = (scale, row["val/top1"]) if row["val/top1"] > top else (scale / 2, top)
    assert scale < 1


@pytest.mark.full
def test_a_validation_within_an_epoch_changes_no_weight(within, tmp_path):
    more = ("trainer.max_epochs=3",)
    (plain, folder), (entry, other) = run(tmp_path / "a", *more), run(tmp_path / "b", *more, *WITHIN)
    assert entry.identity != plain.identity
    rows = [{key: value for key, value in row.items() if not compare.is_time(key)} for row in entry.whole_epochs]
    assert rows == [{key: value for key, value in row.items() if not compare.is_time(key)} for row in plain.epochs]
    one, two = weights(folder, "last.ckpt"), weights(other, "last.ckpt")
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.full
@pytest.mark.parametrize("steps", [4, 5, 6, 10, 16])  # 4, 10 and 16: the validation follows, then the state
def test_a_run_interrupted_about_a_validation_within_an_epoch_goes_on(within, steps, tmp_path):
    entry, folder = within
    with stopped_by(signal.SIGTERM, after_steps=steps), pytest.raises(Interrupted):
        run(tmp_path, *WITHIN, *PLATEAU)
    again, other = run(tmp_path, *WITHIN, *PLATEAU, "resume=auto")
    assert [segment.from_step for segment in again.segments] == [0, steps]
    assert compare.first_difference(entry, again) is None
    for name in ("last.ckpt", "best.ckpt"):
        one, two = weights(folder, name), weights(other, name)
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.full
@pytest.mark.parametrize("steps", [4, 5, 9, 10])
def test_early_stopping_within_an_epoch_ends_it_and_an_interrupted_run_likewise(steps, tmp_path, capsys):
    words = (*WITHIN, *STOPPING[:1], "stopping.patience=2", STOPPING[2])  # the first is the best: the third ends it
    entry, folder = run(tmp_path / "alone", *words)
    assert "stopped in epoch 2: val/top1 has not been better than" in capsys.readouterr().out
    assert [(row["epoch"], row["step"]) for row in entry.epochs] == [(0.666667, 4), (1, 6), (2, 10)]
    assert {"train/loss", "val/top1"} <= entry.epochs[-1].keys()
    with stopped_by(signal.SIGTERM, after_steps=steps), pytest.raises(Interrupted):
        run(tmp_path / "killed", *words)
    again, other = run(tmp_path / "killed", *words, "resume=auto")
    assert compare.first_difference(entry, again) is None
    one, two = weights(folder, "last.ckpt"), weights(other, "last.ckpt")
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.full
def test_a_run_with_validations_within_epochs_is_extended_as_if_it_had_been_longer(tmp_path):
    longer, _ = run(tmp_path / "longer", *WITHIN, "scheduler=constant")
    first, _ = run(tmp_path / "runs", *WITHIN, "scheduler=constant", "trainer.max_epochs=2")
    more, _ = run(tmp_path / "runs", *WITHIN, "scheduler=constant", f"resume={first.id}")
    assert compare.first_difference(longer, more) is None


def test_the_interval_of_validations_is_checked(tmp_path):
    for value in ("0", "-2", "1.5", "0.0", "true", "often"):
        line = rf"val_check_interval={value}: must be a number of training batches, at least 1, or a share of an epoch"
        with pytest.raises(UserError, match=line):
            compose("train", [*WORDS, f"trainer.val_check_interval={value}"])
    with pytest.raises(UserError, match=r"val_check_interval=7: an epoch has 6 batches; give at most as many"):
        run(tmp_path, "trainer.val_check_interval=7")
    with pytest.raises(UserError, match=r"val_check_interval=4: an epoch has 3 batches"):
        run(tmp_path, "trainer.val_check_interval=4", "trainer.limit_train_batches=0.5")
    with pytest.raises(UserError, match=r"=3: must be a multiple of trainer.accumulate_grad_batches=2"):
        run(tmp_path, "trainer.val_check_interval=3", "trainer.accumulate_grad_batches=2")
    with pytest.raises(UserError, match=r"val_check_interval=0.5 with procedure=bagging: what its stages leave is"):
        compose("train", ["model=bagging", "trainer.val_check_interval=0.5"])
    assert not list(tmp_path.iterdir())  # refused before there is a run folder


def test_an_interval_of_a_whole_epoch_is_none(tmp_path):
    def key(*words):
        return identity.identity(compose("train", [*WORDS, *words]), ranks=1, data_fingerprint="", code="")

    assert key() == key("trainer.val_check_interval=1.0") != key("trainer.val_check_interval=1")
    assert key("trainer.fast_dev_run=true") == key("trainer.fast_dev_run=true", "trainer.val_check_interval=100")


def test_a_share_of_an_epoch_is_rounded_up_to_whole_steps():
    def interval(share, batches, every=1):
        words = [f"trainer.val_check_interval={share}", f"trainer.accumulate_grad_batches={every}"]
        return machine._interval(compose("train", [*WORDS, *words]).trainer, batches)

    assert [interval(0.25, 313), interval(0.5, 313), interval(0.25, 313, 4), interval(0.9, 4, 3)] == [79, 157, 80, 4]
    assert interval(0.001, 313) == 1
