"""Weights that are not there or are another network's, and files that are there: one line, whichever command it is."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from composed import compose

from paperzoo import evaluation
from paperzoo.errors import UserError
from paperzoo.inference import exporting, loading, published
from paperzoo.runs import checkpoints, folders
from paperzoo.tasks import making
from paperzoo.training import train

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def without_weights(runs, classifier, tmp_path):
    """The folder of a run that failed before it had weights: all that the classifier has but these."""
    folder = tmp_path / "failed" / "resnet" / classifier.identity / "1"
    shutil.copytree(folders.find(runs, classifier.id), folder, ignore=shutil.ignore_patterns("checkpoints"))
    plain = json.loads((folder / "run.json").read_text())
    plain |= {"status": "failed", "checkpoints": {}, "results": {}}
    (folder / "run.json").write_text(json.dumps(plain))
    return str(folder)


@pytest.fixture
def trained_from(classifier_words, tmp_path):
    """A training with weights to begin with."""

    def run(name, *more):
        words = [*classifier_words, *more, f"model.checkpoint={name}", f"paths.runs_dir={tmp_path / 'runs'}"]
        return train(compose("train", words))

    return run


def test_a_run_that_has_no_weights(without_weights, trained_from, tmp_path):
    run = without_weights
    for command in (
        lambda: loading.read(run),
        lambda: exporting.run(run, str(tmp_path / "a.pt2"), format="torch_export"),
        lambda: evaluation.evaluate(compose("evaluate", [f"run={run}"])),
        lambda: trained_from(f"run:{run}"),
    ):
        with pytest.raises(UserError, match=r"run \w+-1 is failed and has no last weights yet; train it to") as error:
            command()
        assert "\n" not in str(error.value)
    assert not (tmp_path / "a.pt2").exists()
    assert list(tmp_path.glob("runs/*/*/*")) == []


@pytest.mark.full
def test_weights_of_another_network(runs, classifier, trained_from, tmp_path):
    content = checkpoints.load(folders.find(runs, classifier.id) / "checkpoints" / "last.ckpt")
    torch.save({"state_dict": making.of_run(content)}, tmp_path / "published.pth")
    content["config"]["model"]["width"] = 8
    torch.save(content, tmp_path / "other.ckpt")
    words = {"model": "resnet", "model.network": "resnet18", "model.checkpoint": str(tmp_path / "published.pth")}
    for command in (
        lambda: loading.read(tmp_path / "other.ckpt"),
        lambda: exporting.run(str(tmp_path / "other.ckpt"), str(tmp_path / "a.pt2"), format="torch_export"),
        lambda: published.read(words),
        lambda: published.evaluate(compose("train", [*(f"{k}={v}" for k, v in words.items()), "data.in_chans=3"])),
        lambda: trained_from(f"run:{folders.find(runs, classifier.id)}", "model.width=8"),
    ):
        with pytest.raises(UserError, match="the weights do not fit this network: ") as error:
            command()
        assert "\n" not in str(error.value)
        assert len(str(error.value)) < 1500
    assert list(tmp_path.glob("runs/*/*/*")) == []


def test_a_runs_checkpoint_is_no_published_file(runs, classifier):
    """It would be given ImageNet's classes, whose classifier it does not have."""
    file = folders.find(runs, classifier.id) / "checkpoints" / "last.ckpt"
    words = {"model": "resnet", "model.checkpoint": str(file)}
    for command in (
        lambda: published.read(words),
        lambda: published.evaluate(compose("train", [f"{k}={v}" for k, v in words.items()])),
    ):
        with pytest.raises(UserError, match=r"last.ckpt: is a run's checkpoint; a run's own weights go with run=<id>"):
            command()


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_place_that_is_taken(kind, runs, classifier, tmp_path, monkeypatch, capsys):
    out = tmp_path / "net.pt2"
    if kind == "file":
        out.write_bytes(b"mine")
    else:
        out.mkdir()
    words = [f"run={classifier.id}", "format=torch_export", f"out={out}", f"runs_dir={runs}"]
    monkeypatch.setattr(sys, "argv", ["export.py", *words])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SRC / "export.py"), run_name="__main__")
    assert end.value.code == 2
    assert capsys.readouterr().err == f"error: out={out}: is there already; name another file, or remove it\n"
    assert out.is_dir() or out.read_bytes() == b"mine"
