"""A finished run goes on for more epochs, as a new run that names it."""

import signal

import pytest
import torch
from interruption import stopped_by

from paperzoo.config import compose
from paperzoo.errors import Interrupted, UserError
from paperzoo.runs import checkpoints
from paperzoo.training import train

WORDS = ["model=resnet", "model.depth=11", "model.width=2", "data.image_size=8", "trainer=cpu", "logger=none"]
WORDS += ["data.limit_train=96", "data.batch_size=16", "data.validation=50", "data.test=50", "mix=mixup"]
WORDS += ["scheduler=constant", "optimizer.lr=0.02"]


def run(tmp_path, epochs, *more):
    entry = train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path}", f"trainer.max_epochs={epochs}", *more]))
    assert entry is not None
    return entry


def folder(tmp_path, entry):
    return tmp_path / "resnet" / entry.identity / str(entry.attempt)


def weights(tmp_path, entry, name):
    return checkpoints.load(folder(tmp_path, entry) / "checkpoints" / name)["state_dict"]


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Two epochs, and four from the start."""
    root = tmp_path_factory.mktemp("extending")
    return root, run(root, 2), run(root / "long", 4)


@pytest.mark.promise
def test_an_extended_run_is_the_longer_run(short):
    root, first, long = short
    entry = run(root, 4, f"resume={first.id}")
    assert entry.identity not in (first.identity, long.identity)
    assert [(parent.id, parent.weights) for parent in entry.parents] == [(first.id, "state")]
    assert [row["train/loss"] for row in entry.epochs] == [row["train/loss"] for row in long.epochs]
    assert {name: result.metrics for name, result in entry.results.items()} == {
        name: result.metrics for name, result in long.results.items()
    }
    for name in ("last.ckpt", "best.ckpt"):
        one, two = weights(root, entry, name), weights(root / "long", long, name)
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.full
def test_the_same_command_after_a_kill_goes_on(short, tmp_path):
    long, first = short[2], run(tmp_path, 2)
    with stopped_by(signal.SIGTERM, after_steps=9), pytest.raises(Interrupted):
        run(tmp_path, 4, f"resume={first.id}")
    entry = run(tmp_path, 4, f"resume={first.id}")
    assert [segment.from_step for segment in entry.segments] == [12, 21]
    assert [row["train/loss"] for row in entry.epochs] == [row["train/loss"] for row in long.epochs]


@pytest.mark.full
def test_a_cosine_goes_on_where_the_longer_one_is(tmp_path):
    words = ("scheduler=cosine", "scheduler.warmup_epochs=0", "trainer.log_every_n_steps=1")
    first, long = run(tmp_path, 2, *words), run(tmp_path / "long", 4, *words)
    entry = run(tmp_path, 4, *words, f"resume={first.id}")
    rates = [
        [float(line.split(",")[2]) for line in (folder(root, each) / "steps.csv").read_text().splitlines()[1:]]
        for root, each in ((tmp_path, entry), (tmp_path / "long", long))
    ]
    assert len(rates[0]) == len(rates[1]) == 24
    assert rates[0][12:] == rates[1][12:]
    assert rates[0][:12] != rates[1][:12]


@pytest.mark.full
def test_what_cannot_be_extended_is_one_line(short, tmp_path):
    root, first, _ = short
    with pytest.raises(UserError, match=r"^resume=\w+-1: optimizer.lr is 0.5, there it was 0.02; only trainer.max"):
        run(root, 4, f"resume={first.id}", "optimizer.lr=0.5")
    with pytest.raises(UserError, match="not interrupted"):
        run(root, 2, f"resume={first.id}")
    gone = run(tmp_path, 1, "checkpoint.keep_state=false")
    assert not (folder(tmp_path, gone) / "checkpoints" / checkpoints.STATE).exists()
    with pytest.raises(UserError, match="its exact state is gone"):
        run(tmp_path, 2, f"resume={gone.id}")
