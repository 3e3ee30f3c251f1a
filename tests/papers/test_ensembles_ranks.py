"""Ensembles over two ranks are those of one: members, bootstrap counts, errors, folds and out-of-bag estimates."""

from pathlib import Path

import forked
import pytest
import torch

from paperzoo.runs import checkpoints, record

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
    "bagging, SyncBN spread": ["model.members=2", "norm=sync_batch"],
    "bagging, Switchable Norm spread": ["model.members=2", "norm=switchable", "trainer.sync_batchnorm=true"],
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
