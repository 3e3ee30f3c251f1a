"""Ensembles over two ranks are those of one: members, bootstrap counts, errors, folds and out-of-bag estimates."""

from pathlib import Path

import forked
import pytest
import torch

from paperzoo.runs import checkpoints, record
from paperzoo.tasks.diverging import DivergingClassification

pytestmark = pytest.mark.full

TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"
WORDS = ["norm=group", "model.depth=11", "model.width=2", "data.limit_train=96", "data.image_size=12", "data.test=50",
         "data.validation=50", "data.augment.crop_padding=0", "optimizer.lr=0.05", "trainer.precision=64-true",
         "trainer.threads=1", "trainer.max_epochs=2", "logger=none"]  # fmt: skip
MODELS = {
    "bagging": ["model.members=3"],  # each rank does all of them, on its part of the batch
    "bagging, spread": [
        "model.members=2",
        "norm=paper",
        "data.limit_train=90",
        "data.drop_last=false",
    ],  # joint batch, at last 10
    "bagging, SyncBN spread": ["model.members=2", "norm=sync_batch", "trainer.accumulate_grad_batches=2"],
    "bagging, Switchable Norm spread": [
        "model.members=2",
        "norm=switchable",
        "trainer.sync_batchnorm=true",
        "model.freeze=[members.0,members.1.layer1]",  # nothing of the first is trained
    ],
    "boosting": ["model.members=2"],
    "stacking": ["model.papers=[resnet]", "procedure.folds=2"],
}


def trained(runs, ranks, *words):
    words, logs = (*WORDS, *words, f"paths.runs_dir={runs}"), runs.parent / f"{runs.name}.logs"
    if ranks == 1:
        processes = [forked.start(TRAIN, *words, log=logs)]
    else:
        processes = forked.start_ranks(TRAIN, *words, ranks=ranks, logs=logs)
    for process in processes:
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 0, output[-3000:]
    (path,) = runs.glob("*/*/*/run.json")
    entry = record.read(path.parent)
    return entry, checkpoints.load(path.parent / entry.checkpoints["last"])


@pytest.mark.parametrize("model", MODELS)
def test_two_ranks_train_the_ensemble_of_one(model, tmp_path):
    words = [f"model={model.split(',')[0]}", *MODELS[model]]
    one, expected = trained(tmp_path / "one", 1, *words, "trainer=cpu", "data.batch_size=16")
    two, got = trained(tmp_path / "two", 2, *words, "trainer=ddp_cpu", "data.batch_size=8")
    assert two.ranks == 2
    assert expected["state_dict"].keys() == got["state_dict"].keys()
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(got["state_dict"][name], value, rtol=0, atol=1e-7, msg=name)
    assert len(expected["outcomes"]) == len(got["outcomes"])
    for a, b in zip(expected["outcomes"], got["outcomes"], strict=True):
        for key in [key for key in a if isinstance(a[key], torch.Tensor)] if isinstance(a, dict) else []:
            torch.testing.assert_close(b[key], a[key], rtol=0, atol=1e-7, msg=key)  # predictions of members, too
    metrics = one.results["last"].metrics
    assert two.results["last"].metrics == pytest.approx(metrics, abs=1e-5)
    assert not model.startswith("bagging") or "oob/top1" in metrics


@pytest.mark.parametrize("members", [2, 3])  # spread over the ranks, and each on both
def test_a_member_that_diverges_is_left_out_on_both_ranks(members, tmp_path, monkeypatch):
    begin = DivergingClassification.on_train_start

    def poisoned(self):
        begin(self)
        with torch.no_grad():
            self.network.members[1].fc.bias[0] = float("nan")

    monkeypatch.setattr(DivergingClassification, "on_train_start", poisoned)  # a rank is a fork of this process
    words = ["model=bagging", f"model.members={members}", "model.diverged=drop", "optimizer.momentum=0.9"]
    _, expected = trained(tmp_path / "one", 1, *words, "trainer=cpu", "data.batch_size=16")
    _, got = trained(tmp_path / "two", 2, *words, "trainer=ddp_cpu", "data.batch_size=8")
    said = (tmp_path / "two.logs" / "0.log").read_text()
    assert said.count("member 1 diverged") == 1
    assert "left out from now on" in " ".join(said.split())
    assert got["state_dict"]["network.weights"].tolist() == [float(n != 1) for n in range(members)]
    for name, value in expected["state_dict"].items():  # of the one that was left out: zeros
        torch.testing.assert_close(got["state_dict"][name], value, rtol=0, atol=1e-7, msg=name)
