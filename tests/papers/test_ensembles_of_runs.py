"""Finished runs as members: nothing is trained, one checkpoint holds all, the record names the parents."""

import shutil

import pytest
import torch
from composed import compose
from contract import configured, equal_state, last_checkpoint

import paperzoo
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.evaluation import evaluate
from paperzoo.inference import loading
from paperzoo.reproduction import reproduce
from paperzoo.runs import checkpoints, folders, record
from paperzoo.runs.identity import code_of
from paperzoo.runs.members import resolved
from paperzoo.training import train

pytestmark = pytest.mark.full  # three runs are trained for it
SMALL = ["data.image_size=12", "optimizer.lr=0.05"]


def bagged(runs, *members, words=()):
    names = ",".join(f"run:{name}" for name in members)
    config = ["model=bagging", f"model.members=[{names}]", "trainer=cpu", "logger=none", f"paths.runs_dir={runs}"]
    data = ["data.limit_train=64", "data.batch_size=16", "data.validation=50", "data.test=50", "data.image_size=12"]
    return compose("train", [*config, *data, *words])


@pytest.fixture(scope="module")
def donors(tmp_path_factory):
    """Two seeds of one paper, one with another norm, and a run of another paper."""
    runs = tmp_path_factory.mktemp("runs")
    words = [["resnet"], ["resnet", "seed=1", "norm=group"], ["scnet"]]
    entries = [train(configured(*each, *SMALL, "model.width=4", "model.depth=11", runs=runs)) for each in words]
    return entries, runs


@pytest.fixture(scope="module")
def ensemble(donors):
    entries, runs = donors
    return train(bagged(runs, *(entry.id for entry in entries))), runs


def test_the_vote_is_that_of_the_runs_own_networks_and_nothing_is_trained(donors, ensemble):
    entries, _ = donors
    entry, runs = ensemble
    assert [(s.name, s.kind, s.steps) for s in entry.stages] == [("vote", "loop", 3)]
    data = make_data(configured("resnet", *SMALL))
    networks = [paperzoo.load(each.id, runs_dir=runs) for each in entries]
    state = last_checkpoint(entry, runs)["state_dict"]
    for number, network in enumerate(networks):
        prefix = f"network.members.{number}."
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        assert equal_state(own, network.state_dict())
    shares = {}
    for split in ("val", "test"):
        images, labels = data.tensors(split)
        with torch.no_grad():
            p = torch.stack([network(data._normalise(images)).softmax(1) for network in networks])
        shares[split] = [float((p[:k].mean(0).argmax(1) == labels).double().mean()) for k in (1, 2, 3)]
    assert [row["val/top1"] for row in entry.epochs] == pytest.approx(shares["val"])
    assert [row["members"] for row in entry.epochs] == [1, 2, 3]
    assert entry.results["last"].metrics["test/top1"] == pytest.approx(shares["test"][-1])


def test_the_record_names_the_parents_and_they_are_part_of_the_identity(donors, ensemble, tmp_path):
    entries, runs = donors
    entry, _ = ensemble
    assert [(p.id, p.identity, p.weights) for p in entry.parents] == [(e.id, e.identity, "last") for e in entries]
    again = train(bagged(runs, *(each.identity for each in entries), words=["repeat=false"]))
    assert again.id == entry.id  # a bare identity is its latest finished attempt
    other = train(bagged(runs, entries[1].id, entries[0].id))
    best = train(bagged(runs, entries[1].id, f"{entries[0].id}:best"))
    assert len({entry.identity, other.identity, best.identity}) == 3
    code = code_of(bagged(runs, entries[2].id))
    assert any("papers/scnet/" in name for name in code)
    assert not any("papers/scnet/" in name for name in code_of(bagged(runs, entries[0].id)))


def test_one_member_has_the_metrics_of_its_run(donors):
    entries, runs = donors
    entry = train(bagged(runs, entries[0].id, words=["model.voting=hard"]))
    ours, theirs = entry.results["last"].metrics, entries[0].results["last"].metrics
    for name in ("test/top1", "test/loss", "test/top5", "test/ece"):
        assert ours[name] == pytest.approx(theirs[name], rel=1e-5)


def test_its_checkpoint_is_all_that_it_needs(ensemble, tmp_path):
    """Evaluated and loaded where the members' runs are not."""
    entry, runs = ensemble
    folder = folders.find(runs, entry.id)
    shutil.copytree(folder, tmp_path / "bagging" / entry.identity / "1")
    got = evaluate(compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={tmp_path}"]))
    assert got == {n: v for n, v in entry.results["last"].metrics.items() if n.startswith("test/")}
    network = paperzoo.load(tmp_path / "bagging" / entry.identity / "1" / entry.checkpoints["last"])
    assert equal_state(network.state_dict(), paperzoo.load(entry.id, runs_dir=runs).state_dict())
    content = checkpoints.load(folder / entry.checkpoints["last"])  # with weights_only
    names = [member["run"] for member in content["hyper_parameters"]["model"]["members"]]
    assert names == [f"run:{parent.id}:last" for parent in entry.parents]


def test_it_is_reproduced_from_its_record(ensemble):
    entry, runs = ensemble
    assert reproduce(entry.id, str(runs), "data", None) == 0


@pytest.mark.parametrize(("words", "line"), [
    (["data.image_size=16"], r"model.members=run:.*: image_size of its data is 12, of data=mnist5k 16"),
    (["norm=batch"], "norm=batch: model.members names runs, which have norms of their own"),
    (["model.depth=20"], "model.depth=20: model.members names finished runs"),
    (["model.checkpoint=run:0"], "model.checkpoint=run:0: model.members names runs, which have weights"),
    (["procedure=fit"], "model.members names finished runs, which are not trained"),
])  # fmt: skip
def test_what_does_not_go_with_runs_is_one_line(words, line, donors):
    entries, runs = donors
    with pytest.raises(UserError, match=line):
        train(bagged(runs, entries[0].id, words=words))


def test_a_run_that_is_not_there_or_has_no_weights_is_one_line(donors, tmp_path):
    entries, runs = donors
    with pytest.raises(UserError, match=r"^model.members=run:0000000000: there is no such run"):
        train(bagged(runs, "0000000000"))
    folder = tmp_path / "resnet" / entries[0].identity / "1"
    shutil.copytree(folders.find(runs, entries[0].id), folder)
    (folder / entries[0].checkpoints["best"]).unlink()
    with pytest.raises(UserError, match=r"model.members=run:.*:best: run \w+-1 is finished and has no best weights"):
        train(bagged(tmp_path, f"{entries[0].id}:best"))
    record.write(folder, record.read(folder).model_copy(update={"status": "interrupted"}))
    with pytest.raises(UserError, match=r"model.members=run:.*: run \w+-1 is interrupted; train it to the end"):
        train(bagged(tmp_path, entries[0].id))


def test_a_run_of_another_task_or_other_classes_is_one_line(donors, tmp_path):
    entries, runs = donors
    for change, line in (
        ({"config": {**entries[0].config, "data": {**entries[0].config["data"], "task": "language"}}}, "does language"),
        ({"info": {**entries[0].info, "num_classes": 7}}, "num_classes of its data is 7, of data=mnist5k 10"),
    ):
        folder = tmp_path / line[:4] / "resnet" / entries[0].identity / "1"
        shutil.copytree(folders.find(runs, entries[0].id), folder)
        record.write(folder, record.read(folder).model_copy(update=change))
        with pytest.raises(UserError, match=line):
            train(bagged(tmp_path / line[:4], entries[0].id))


def test_a_member_that_saw_other_data_is_named(donors, tmp_path, capsys):
    entries, runs = donors
    folder = tmp_path / "resnet" / entries[0].identity / "1"
    shutil.copytree(folders.find(runs, entries[0].id), folder)
    other = entries[0].data.model_copy(update={"fingerprint": "0" * 64})
    record.write(folder, record.read(folder).model_copy(update={"data": other}))
    train(bagged(tmp_path, entries[0].id))
    assert f"note: member {entries[0].id} was trained on other data" in " ".join(capsys.readouterr().out.split())


def test_a_member_taken_out_is_its_run(donors, ensemble):
    entries, runs = donors
    trained = loading.read(ensemble[0].id, runs_dir=runs)
    for number, entry in enumerate(entries):
        alone, own = loading.member_of(trained, number), loading.read(entry.id, runs_dir=runs)
        assert alone.groups["model"] == own.groups["model"]
        assert equal_state(alone.module.state_dict(), own.module.state_dict())


def test_what_is_resolved_stays_so(donors):
    entries, runs = donors
    once = resolved(bagged(runs, entries[0].id))
    assert resolved(once) == once
