"""Several stages in one run: rows, cost, outcomes and weights of each; parents; evaluation of what stages left."""

import os
import signal
import time
from pathlib import Path

import forked
import pytest
import torch
from composed import compose
from interruption import Died, stopped_by
from pruning import SearchTrain, Shares, TrainPruneTune, TrainSearch

from paperzoo.errors import Interrupted, UserError
from paperzoo.evaluation import evaluate
from paperzoo.runs import checkpoints, compare, folders, listing, record
from paperzoo.training import train

WORDS = [
    "model=resnet", "model.depth=11", "model.width=4", "trainer=cpu", "trainer.max_epochs=1", "logger=none",
    "data.limit_train=64", "data.batch_size=16", "data.validation=50", "data.test=50",
]  # fmt: skip
HELPERS = Path(__file__).resolve().parents[1] / "helpers"
STAGED = f"procedure._target_={TrainPruneTune.__module__}.{TrainPruneTune.__name__}"


@pytest.fixture(scope="module")
def staged(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return train(compose("train", [*WORDS, STAGED, f"paths.runs_dir={runs}"])), runs


def test_each_stage_has_its_rows_its_steps_and_its_own_rate(staged):
    entry, _ = staged
    assert [(s.name, s.kind, s.rows, s.steps) for s in entry.stages] == [
        ("train", "fit", 2, 8), ("search", "loop", 6, 6), ("fine-tune", "fit", 1, 4),
    ]  # fmt: skip
    assert [row["stage"] for row in entry.epochs] == [1, 1, *[2] * 6, 3]
    steps = [row["step"] for row in entry.epochs]
    assert steps == [4, 8, 9, 10, 11, 12, 13, 14, 18]
    assert entry.epochs[-1]["lr"] < 0.005  # its own optimizer.lr, on a cosine
    assert entry.results["last"].step == 18


def test_the_weights_are_pruned_as_the_search_found(staged):
    entry, runs = staged
    content = checkpoints.load(folders.find(runs, entry.id) / entry.checkpoints["last"])
    tried = [(row["cost"], row["share"]) for row in entry.epochs if "cost" in row]
    share = min(tried)[1]
    assert content["outcomes"][1] == share
    masks = [value for name, value in content["state_dict"].items() if name.endswith("weight_mask")]
    assert masks
    for mask in masks:
        assert float((mask == 0).sum()) == pytest.approx(share * mask.numel(), abs=1)


@pytest.mark.parametrize("weights", ["last", "best"])
def test_a_staged_run_is_evaluated_as_its_stages_left_it(staged, weights):
    entry, runs = staged
    got = evaluate(compose("evaluate", [f"run={entry.id}", f"weights={weights}", f"paths.runs_dir={runs}"]))
    on_record = entry.results[weights].metrics
    assert got == {name: value for name, value in on_record.items() if name.startswith("test/")}


def test_a_run_begins_with_another_runs_weights_and_names_it(staged, tmp_path):
    runs = tmp_path / "runs"
    first = train(compose("train", [*WORDS, f"paths.runs_dir={runs}"]))
    words = [*WORDS, f"model.checkpoint=run:{first.id}:best", "optimizer.lr=1e-12", f"paths.runs_dir={runs}"]
    second = train(compose("train", words))
    assert [(p.id, p.identity, p.weights) for p in second.parents] == [(first.id, first.identity, "best")]
    assert second.identity != first.identity
    a, b = (checkpoints.load(folders.find(runs, e.id) / e.checkpoints["last"])["state_dict"] for e in (first, second))
    learned = [name for name in a if name.endswith("conv1.weight")]
    for name in learned:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-9)
    again = train(compose("train", [*words, "repeat=false"]))
    assert again.id == second.id
    other = train(compose("train", [*WORDS, "seed=1", f"paths.runs_dir={runs}"]))
    third = train(compose("train", [*words[:-3], f"model.checkpoint=run:{other.id}", *words[-2:]]))
    assert third.identity != second.identity  # a parent's identity is part of the child's


@pytest.mark.parametrize(("name", "line"), [
    ("run:0000000000", "^model.checkpoint=run:0000000000: there is no such run"),
    ("run:{id}:first", "a run has weights last, best, and step_<n>"),
])  # fmt: skip
def test_weights_that_are_not_there_are_one_line(name, line, staged, tmp_path):
    entry, runs = staged
    with pytest.raises(UserError, match=line):
        train(compose("train", [*WORDS, f"model.checkpoint={name.format(id=entry.id)}", f"paths.runs_dir={runs}"]))


def test_resume_of_a_finished_run_says_so(staged, capsys):
    entry, runs = staged
    again = train(compose("train", [*WORDS, STAGED, f"paths.runs_dir={runs}", "resume=auto"]))
    assert again.id == entry.id
    assert "has finished before" in capsys.readouterr().out
    assert compare.first_difference(entry, again) is None


@pytest.mark.promise
@pytest.mark.parametrize("procedure", [TrainSearch, SearchTrain])
def test_a_search_that_comes_first_or_last_goes_on_after_a_kill(procedure, tmp_path, monkeypatch):
    words = [*WORDS, f"procedure._target_=pruning.{procedure.__name__}", "checkpoint.every_steps=1"]
    begun = time.perf_counter()
    expected = train(compose("train", [*words, f"paths.runs_dir={tmp_path / 'alone'}"]))
    assert sum(stage.seconds for stage in expected.stages) < time.perf_counter() - begun
    words += [f"paths.runs_dir={tmp_path / 'killed'}", "resume=auto"]
    evaluate_one = Shares.evaluate

    def dying(self, *args):
        if len(self.told) == 3:
            raise Died
        return evaluate_one(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Shares, "evaluate", dying)
        with pytest.raises(Died):
            train(compose("train", words))
    got = train(compose("train", words))
    assert len(got.segments) == 2
    assert compare.first_difference(expected, got) is None
    assert got.results.keys() == {"last", "best"}


@pytest.mark.promise
def test_a_resumed_stage_knows_what_came_of_those_before(staged, tmp_path):
    words = [*WORDS, STAGED, f"paths.runs_dir={tmp_path}", "resume=auto"]
    with stopped_by(signal.SIGTERM, after_steps=10), pytest.raises(Interrupted):  # the third stage begins after eight
        train(compose("train", words))
    resumed = train(compose("train", words))
    assert len(resumed.segments) == 2
    assert compare.first_difference(staged[0], resumed) is None


def test_max_steps_ends_every_fit(tmp_path):
    entry = train(compose("train", [*WORDS, STAGED, "trainer.max_steps=3", f"paths.runs_dir={tmp_path}"]))
    assert [stage.steps for stage in entry.stages] == [3, 6, 3]


def test_every_try_of_a_search_is_compared(staged):
    entry, _ = staged
    other = entry.model_copy(deep=True)
    other.epochs[3]["cost"] += 1.0  # of the second of six tries
    assert "cost" in compare.first_difference(entry, other)


def test_a_loop_may_be_the_first_stage_of_ranks_that_lightning_starts(tmp_path):
    """The command starts the second rank itself, which a fit would have done."""
    words = [*WORDS, "trainer=ddp_cpu", "trainer.max_epochs=1", "trainer.threads=1", "data.batch_size=8",
             f"paths.runs_dir={tmp_path}", f"procedure._target_=pruning.{SearchTrain.__name__}"]  # fmt: skip
    train_py = Path(__file__).resolve().parents[2] / "src" / "train.py"
    path = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
    done = forked.run(train_py, *words, env={**os.environ, "PYTHONPATH": path}, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    (place,) = tmp_path.glob("*/*/*/run.json")
    entry = record.read(place.parent)
    assert entry.ranks == 2
    assert [(stage.kind, stage.steps) for stage in entry.stages] == [("loop", 6), ("fit", 8)]


def test_the_step_of_a_state_counts_the_stages_before():
    before = {"callbacks": {"History": {"stage_start": (1, 1, 3)}}}
    assert checkpoints.step_of({**before, "global_step": 2}) == 5  # within a fit
    assert checkpoints.step_of({**before, "global_step": 9, "loop": {}}) == 9
    assert checkpoints.step_of({"callbacks": {}, "global_step": 4}) == 4  # from before there were stages


def test_runs_lists_a_staged_run_by_its_rows(staged, capsys):
    entry, runs = staged
    listing.show(runs, model=None, status=None, limit=9)
    assert f"{len(entry.epochs)}/" not in capsys.readouterr().out
