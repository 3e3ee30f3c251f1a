"""Checkpoints of the k best validations and of every n-th epoch: which they are, kills, and what uses them."""

import math
import signal

import pytest
import torch
from composed import compose
from interruption import stopped_by

import paperzoo
from paperzoo.errors import Interrupted, UserError
from paperzoo.evaluation import evaluate
from paperzoo.metric import Metric
from paperzoo.runs import checkpoints, identity, weights
from paperzoo.runs.kept import KeptCheckpoints
from paperzoo.training import train

WORDS = ["model=resnet", "model.depth=11", "model.width=2", "data.image_size=8", "trainer=cpu", "logger=none"]
WORDS += ["data.limit_train=96", "data.batch_size=16", "data.validation=50", "data.test=50", "optimizer.lr=0.02"]
WORDS += ["scheduler=constant", "trainer.val_check_interval=4", "trainer.max_epochs=4", "pictures=false"]
KEPT = ("checkpoint.top_k=2", "checkpoint.every_n_epochs=3")


def run(tmp_path, *more):
    entry = train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path}", *more]))
    assert entry is not None
    return entry, tmp_path / "resnet" / entry.identity / str(entry.attempt)


def files(folder):
    """Name -> weights, of every checkpoint but the exact state."""
    paths = [path for path in (folder / "checkpoints").glob("*.ckpt") if path.name != "state.ckpt"]
    return {path.stem: checkpoints.load(path)["state_dict"] for path in paths}


def equal(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run of 6 batches an epoch that is validated after the fourth, too, left alone."""
    root = tmp_path_factory.mktemp("kept")
    return root, *run(root, *KEPT, "average=moving", "average.decay=0.6")


@pytest.mark.promise
def test_the_best_validations_and_every_third_epoch_stay(kept):
    _, entry, folder = kept
    by_value = sorted(entry.epochs, key=lambda row: -row["val/top1"])  # the first of equals first
    expected = {f"step_{row['step']}" for row in by_value[:2]} | {"step_18"}
    assert entry.checkpoints.keys() == {"last", "best", *expected} == files(folder).keys()
    found = files(folder)
    assert equal(found["best"], found[f"step_{by_value[0]['step']}"])
    assert not any(equal(found["last"], found[name]) for name in expected - {"step_24"})
    digests = {path.name for path in (folder / "checkpoints").glob("*.sha256")}
    assert digests == {f"{name}.ckpt.sha256" for name in (*found, "state")}


def test_what_is_kept_is_what_the_row_is_of(kept):
    root, entry, _ = kept
    row = next(row for row in entry.epochs if row["step"] == 18)
    words = [f"run={entry.id}", "weights=step_18", "split=val", "accelerator=cpu", f"paths.runs_dir={root}"]
    metrics = evaluate(compose("evaluate", words))
    assert metrics["val/top1"] == row["val/top1"]
    assert metrics["val/loss"] == pytest.approx(row["val/loss"], rel=1e-6)
    network = paperzoo.load(entry.id, "step_18", runs_dir=root)
    own = checkpoints.load(weights.find(f"run:{entry.id}:step_18", root).path)["state_dict"]
    assert equal(network.state_dict(), {name.removeprefix("network."): value for name, value in own.items()})


@pytest.mark.full
@pytest.mark.parametrize("steps", [4, 11, 18, 22])
def test_an_interrupted_run_keeps_the_same(kept, steps, tmp_path):
    more = (*KEPT, "average=moving", "average.decay=0.6", "resume=auto")
    with stopped_by(signal.SIGTERM, after_steps=steps), pytest.raises(Interrupted):
        run(tmp_path, *more)
    entry, folder = run(tmp_path, *more)
    assert entry.checkpoints == kept[1].checkpoints
    one, two = files(folder), files(kept[2])
    assert all(equal(one[name], two[name]) for name in one)


@pytest.mark.full
@pytest.mark.parametrize(
    ("first", "then", "rows", "k", "regular"),
    [
        ((), KEPT, slice(3, None), 2, {"step_18"}),  # ranked from where it goes on
        (KEPT, (), slice(0, 3), 2, set()),  # what was kept stays
        (("checkpoint.top_k=3",), ("checkpoint.top_k=1",), slice(0, None), 1, set()),
    ],
)
def test_an_interrupted_run_may_go_on_with_another_choice(first, then, rows, k, regular, tmp_path, recwarn):
    with stopped_by(signal.SIGTERM, after_steps=11), pytest.raises(Interrupted):
        run(tmp_path, *first)
    entry, _ = run(tmp_path, *then, "resume=auto")
    ranked = sorted(entry.epochs[rows], key=lambda row: -row["val/top1"])
    expected = {f"step_{row['step']}" for row in ranked[:k]} | regular
    assert entry.checkpoints.keys() - {"last", "best"} == expected
    assert not [warning for warning in recwarn if "callbacks used to create" in str(warning.message)]


@pytest.mark.full
def test_an_extended_run_keeps_what_the_longer_one_does(tmp_path):
    longer, alone = run(tmp_path / "longer", *KEPT)
    first, _ = run(tmp_path, *KEPT, "trainer.max_epochs=2")
    entry, folder = run(tmp_path, *KEPT, f"resume={first.id}")
    assert entry.checkpoints == longer.checkpoints
    one, two = files(folder), files(alone)
    assert all(equal(one[name], two[name]) for name in one)


def test_it_is_outside_the_identity():
    keys = {
        identity.identity(compose("train", [*WORDS, *words]), ranks=1, data_fingerprint="", code="")
        for words in ((), KEPT)
    }
    assert len(keys) == 1


def test_mistakes_are_one_line(kept):
    root, entry, _ = kept
    kinds = "must be last, best, or step_<n>"
    with pytest.raises(UserError, match=rf"weights=newest: {kinds}"):
        compose("evaluate", [f"run={entry.id}", "weights=newest"])
    with pytest.raises(UserError, match=rf"weights=newest: {kinds}"):
        paperzoo.load(entry.id, "newest", runs_dir=root)
    with pytest.raises(UserError, match=r"is finished and has no step_5 weights; use best or last or step_18"):
        paperzoo.load(entry.id, "step_5", runs_dir=root)
    with pytest.raises(UserError, match=r"is finished and has no step_5 weights; use best"):
        weights.find(f"run:{entry.id}:step_5", root)
    with pytest.raises(UserError, match=r"run:\w+-1:../last: a run has weights last, best, and step_<n>"):
        weights.find(f"run:{entry.id}:../last", root)
    for value in ("0", "-1", "1.5"):
        with pytest.raises(UserError, match=rf"checkpoint.top_k={value}: "):
            compose("train", [*WORDS, f"checkpoint.top_k={value}"])


class Rows:
    last_step = 0


class Trainer:
    """What it asks Lightning's trainer; writes names alone."""

    is_global_zero, current_epoch = True, 0

    def save_checkpoint(self, path, *, weights_only):
        assert weights_only
        path.write_text("")


class Validated:
    network = None
    results: dict[str, dict[str, float]]


@pytest.mark.parametrize(
    ("goal", "values", "stay"),
    [
        ("max", [0.1, 0.3, 0.3, 0.2, math.nan, 0.4, 0.3], [2, 6]),  # of three 0.3 the first
        ("min", [3.0, 1.0, None, 2.0, 2.0], [2, 4]),
    ],
)
def test_ranks_of_validations(goal, values, stay, tmp_path):
    trainer, rows, module = Trainer(), Rows(), Validated()
    kept = KeptCheckpoints(tmp_path, Metric("x", goal, False, ""), rows, top_k=2)
    for number, value in enumerate(values, 1):
        again = KeptCheckpoints(tmp_path, Metric("x", goal, False, ""), rows, top_k=2)
        again.load_state_dict(kept.state_dict())  # as if killed after each
        kept, rows.last_step, trainer.current_epoch = again, number, number - 1
        module.results = {} if value is None else {"val": {"x": value}}
        kept.on_train_epoch_end(trainer, module)
    assert [int(path.stem[5:]) for path in checkpoints.kept(tmp_path)] == stay
