"""Boosting of networks as stages: weights by a naive loop, kills within and between stages; snapshot ensembles."""

import csv
import math
from functools import partial

import numpy as np
import pytest
import torch
from composed import compose
from contract import configured, demand_same, equal_state, last_checkpoint
from interruption import Died, dying_at

from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.evaluation import evaluate
from paperzoo.papers.boosting import procedure, snapshot_factor
from paperzoo.papers.boosting.procedure import SammeStages, Vote
from paperzoo.papers.boosting.snapshot import snapshot
from paperzoo.runs import compare, folders
from paperzoo.tasks.making import make_module
from paperzoo.training import train

# the stages, told what their members get wrong


def staged(wrongs, members=3, classes=3, **options):
    """The stages that a procedure yields where member m is wrong on ``wrongs[m]``, with the outcome of each."""
    config = configured("boosting", f"model.members={members}", "trainer.precision=64-true")
    stages = SammeStages(**options).stages(config)
    found = [next(stages)]
    weights = np.full(len(wrongs[0]), 1 / len(wrongs[0]))
    for wrong in wrongs:
        used = getattr(found[-1], "weights", None)
        weights = weights if used is None else used.numpy() / used.numpy().sum()
        error = sum(w for w, bad in zip(weights, wrong, strict=True) if bad)
        found.append(stages.send({"wrong": torch.tensor(wrong), "error": error, "classes": classes}))
        if isinstance(found[-1], Vote):
            break
    return found


A = [True, False, False, False]
B = [False, True, False, False]


def test_weights_of_the_stages_by_hand():
    """err = 1/4: α = log 6, w = 6, 1, 1, 1 over 9; then err = 1/9: α = log 16, w = 6, 16, 1, 1 over 24; all times 4."""
    first, second, third, vote = staged([A, B, [False, False, True, False]])
    assert [stage.name for stage in (first, second, third)] == ["member 0", "member 1", "member 2"]
    assert first.weights is None
    assert second.weights.tolist() == pytest.approx([24 / 9, 4 / 9, 4 / 9, 4 / 9])
    assert third.weights.tolist() == pytest.approx([1, 16 / 6, 1 / 6, 1 / 6])
    assert vote.votes == pytest.approx([math.log(6), math.log(16), math.log(2 * 23)])
    assert vote.errors == pytest.approx([1 / 4, 1 / 9, 1 / 24])


def test_shrinkage_scales_the_votes():
    *_, second, vote = staged([A, B], members=2, learning_rate=0.5)
    root = 6**0.5  # exp(log(6) / 2)
    assert second.weights.tolist() == pytest.approx([4 * root / (root + 3), *[4 / (root + 3)] * 3])
    assert vote.votes[0] == pytest.approx(0.5 * math.log(6))


def test_a_perfect_member_has_weight_1_and_is_the_last():
    *_, vote = staged([A, [False] * 4])
    assert vote.votes == pytest.approx([math.log(6), 1])


def test_a_member_worse_than_chance_has_no_vote_and_is_the_last():
    *_, vote = staged([A, [True, True, False, True]])
    assert vote.votes == pytest.approx([math.log(6), 0])
    assert len([*iter_asked(vote)]) == 1


def iter_asked(vote):
    while (candidate := vote.ask()) is not None:
        yield candidate
        vote.tell(candidate, {})


def test_a_first_member_worse_than_chance_is_what_there_is():
    _, vote = staged([[True] * 4])
    assert vote.votes == [1]


def test_resampling_draws_by_the_weights_and_anew_for_each_stage():
    many = [n < 400 for n in range(1600)]
    _, second, third, _ = staged([many, many, many], resample=True)
    assert second.weights is None
    assert len(second.view) == 1600
    share = float((second.view < 400).double().mean())
    assert share == pytest.approx(6 * 400 / (6 * 400 + 1200), abs=5 * (0.25 / 1600) ** 0.5)
    again = staged([many, many], resample=True)[1]
    assert torch.equal(second.view, again.view)
    assert not torch.equal(second.view, third.view)


# runs

WORDS = ["model.members=3", "trainer.max_epochs=2", "data.limit_train=160", "data.image_size=12", "norm=group",
         "data.augment.crop_padding=0", "optimizer.lr=0.05"]  # fmt: skip


def boosted(runs, *words):
    return train(configured("boosting", *WORDS, *words, runs=runs))


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    return boosted(runs), runs


def test_stages_are_visible(alone):
    entry, _ = alone
    assert [(s.name, s.kind, s.rows, s.steps) for s in entry.stages] == [
        ("member 0", "fit", 2, 20), ("member 1", "fit", 2, 20), ("member 2", "fit", 2, 20), ("vote", "loop", 3, 3),
    ]  # fmt: skip
    assert [row["members"] for row in entry.epochs[-3:]] == [1, 2, 3]


def test_votes_and_errors_are_those_of_a_naive_loop_over_the_trained_members(alone):
    entry, runs = alone
    saved = last_checkpoint(entry, runs)
    config = configured("boosting", *WORDS)
    data = make_data(config)
    module = make_module(config, data)
    module.load_state_dict(saved["state_dict"])
    module.eval()
    images, labels = data.tensors("train")
    test_images, test_labels = data.tensors("test")
    weights, votes = [1 / 160] * 160, []
    decision = torch.zeros(50, 10, dtype=torch.float64)
    for number, member in enumerate(module.network.members):
        with torch.no_grad():
            wrong = (member(data._normalise(images)).argmax(1) != labels).tolist()
            chosen = member(data._normalise(test_images)).argmax(1)
        assert saved["outcomes"][number]["wrong"].tolist() == wrong
        error = sum(w for w, bad in zip(weights, wrong, strict=True) if bad) / sum(weights)
        assert saved["outcomes"][number]["error"] == pytest.approx(error, abs=1e-9)
        assert 0 < error < 0.9  # or the sizes of this test do not show what it is for
        vote = math.log((1 - error) / error) + math.log(9)
        votes.append(vote)
        weights = [w * math.exp(vote) if bad else w for w, bad in zip(weights, wrong, strict=True)]
        weights = [w / sum(weights) for w in weights]
        for i, k in enumerate(chosen.tolist()):
            decision[i] -= vote / 9
            decision[i, k] += vote + vote / 9
    assert saved["state_dict"]["network.weights"].tolist() == pytest.approx(votes, rel=1e-6)
    assert entry.epochs[-1]["weight"] == pytest.approx(votes[-1])
    top1 = float((decision.argmax(1) == test_labels).double().mean())
    assert entry.results["last"].metrics["test/top1"] == pytest.approx(top1)


def test_members_that_wait_are_not_trained(alone, tmp_path):
    """The first member is the same, bit for bit, whether others follow or not."""
    entry, runs = alone
    one = boosted(tmp_path, "model.members=1")
    states = [last_checkpoint(e, r)["state_dict"] for e, r in ((one, tmp_path), (entry, runs))]
    first = {name: value for name, value in states[0].items() if name.startswith("network.members.0.")}
    assert len(first) > 10
    assert equal_state(first, {name: states[1][name] for name in first})


def test_a_boosted_run_is_evaluated_as_it_was(alone):
    entry, runs = alone
    got = evaluate(compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={runs}"]))
    on_record = entry.results["last"].metrics
    assert got == {name: value for name, value in on_record.items() if name.startswith("test/")}


def assert_goes_on(alone, runs, dies):
    entry, before = alone
    words = ["checkpoint.every_steps=4", "resume=auto"]
    with pytest.raises(Died), dies:
        boosted(runs, *words)
    got = boosted(runs, *words)
    assert len(got.segments) == 2
    assert got.id == entry.id
    demand_same(entry, before, got, runs)


FULL = pytest.mark.full


@pytest.mark.parametrize("step", [25, *(pytest.param(step, marks=FULL) for step in (20, 21))])
def test_a_kill_within_a_stage_goes_on_exactly(step, alone, tmp_path):
    assert_goes_on(alone, tmp_path, dying_at(step))


@pytest.mark.parametrize(("where", "call"), [
    ("judge", 2),
    *(pytest.param(*place, marks=FULL) for place in (("elect", 1), ("vote", 2))),
])  # fmt: skip
def test_a_kill_between_stages_goes_on_exactly(where, call, alone, tmp_path, monkeypatch):
    """While errors are counted, before the vote, in it."""
    calls = [0]
    owner, name = (Vote, "evaluate") if where == "vote" else (procedure, where)
    function = getattr(owner, name)

    def dying(*arguments):
        calls[0] += 1
        if calls[0] == call:
            raise Died
        return function(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dying)
        assert_goes_on(alone, tmp_path, _restoring(patch, owner, name, function))


class _restoring:
    """The function is itself again once the run has died."""

    def __init__(self, patch, owner, name, function):
        self.restore = partial(patch.setattr, owner, name, function)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.restore()


def test_a_model_without_members_is_one_line(tmp_path):
    with pytest.raises(UserError, match="procedure=samme: model=resnet has no members to train"):
        train(configured("resnet", "procedure=samme", runs=tmp_path))


# snapshot ensembles


def test_the_schedule_is_the_papers_equation():
    """α(t) = α0 / 2 (cos(π mod(t - 1, ⌈T/M⌉) / ⌈T/M⌉) + 1), t from 1."""
    for total, cycles in ((12, 3), (13, 4), (7, 7), (5, 1)):
        length = math.ceil(total / cycles)
        expected = [0.5 * (math.cos(math.pi * ((t - 1) % length) / length) + 1) for t in range(1, total + 1)]
        assert [snapshot_factor(t, total, cycles) for t in range(total)] == pytest.approx(expected, abs=1e-15)
    factor = snapshot(total_steps=12, steps_per_epoch=4, cycles=3)
    assert [factor(t) for t in (0, 2, 4)] == pytest.approx([1, 0.5, 1])
    with pytest.raises(ValueError, match="cycles=4"):
        snapshot_factor(0, 3, 4)
    with pytest.raises(UserError, match=r"scheduler\.cycles=4: must be at most the 3 steps"):
        snapshot(total_steps=3, steps_per_epoch=1, cycles=4)
    with pytest.raises(UserError, match="warmup_epochs=1"):
        snapshot(total_steps=9, steps_per_epoch=1, cycles=2, warmup_epochs=1)


SNAPSHOT = ["procedure=snapshot", "model.voting=soft", "model.members=2", "trainer.max_epochs=4", "data.image_size=12",
            "trainer.log_every_n_steps=1"]  # fmt: skip


def test_a_snapshot_ensemble_goes_on_from_the_member_before_at_the_schedules_rate(tmp_path):
    entry = train(configured("boosting", *SNAPSHOT, runs=tmp_path))
    with (folders.find(tmp_path, entry.id) / "steps.csv").open() as lines:
        rates = [float(line["lr"]) for line in csv.DictReader(lines)]
    assert rates == pytest.approx([0.1 * snapshot_factor(t, 16, 2) for t in range(16)], abs=1e-12)
    state = last_checkpoint(entry, tmp_path)["state_dict"]
    assert state["network.weights"].tolist() == [1, 1]
    begun = []
    select = procedure.go_on

    def noting(number, before, module, data):
        select(number, before, module, data)
        begun.append({name: value.clone() for name, value in module.network.members[number].state_dict().items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procedure, "go_on", noting)
        again = train(configured("boosting", *SNAPSHOT, runs=tmp_path / "again"))
    assert compare.first_difference(entry, again) is None
    first = {name: value for name, value in state.items() if name.startswith("network.members.0.")}
    assert equal_state({f"network.members.0.{name}": value for name, value in begun[1].items()}, first)


def test_cycles_must_fit_the_epochs(tmp_path):
    with pytest.raises(UserError, match=r"trainer.max_epochs=3 must be a multiple of model.members=2"):
        train(configured("boosting", "procedure=snapshot", "model.members=2", "trainer.max_epochs=3", runs=tmp_path))
