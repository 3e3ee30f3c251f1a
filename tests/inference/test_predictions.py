"""A run's predictions as a file: the network's, sample by sample, and the same metrics without it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from composed import compose

import paperzoo
from paperzoo import evaluation, predictions
from paperzoo.errors import UserError
from paperzoo.runs import folders


def test_predictions_are_the_networks_and_give_its_metrics_without_it(runs, classifier, digits, capsys, monkeypatch):
    words = [f"run={classifier.id}", "predictions=true", "accelerator=cpu", f"paths.runs_dir={runs}"]
    metrics = evaluation.evaluate(compose("evaluate", words))
    assert metrics == {k: v for k, v in classifier.results["last"].metrics.items() if k in metrics}
    folder = folders.find(runs, classifier.id)
    file = folder / "predictions" / "test_last.parquet"
    assert file.with_suffix(".png").stat().st_size > 5000
    printed = capsys.readouterr().out

    paths, labels = sorted(digits[0].iterdir()), digits[1]
    network = paperzoo.load(classifier.id, runs_dir=runs)
    logits = network(torch.stack([network.transform(path) for path in paths])).double()
    expected = logits.softmax(1).numpy()
    table = pd.read_parquet(file)
    assert table["index"].tolist() == list(range(60))
    assert (table.label == labels).all()
    np.testing.assert_allclose(np.stack(table.probabilities), expected, rtol=0, atol=1e-5)
    assert (table.predicted == np.stack(table.probabilities).argmax(1)).all()
    np.testing.assert_allclose(table.loss, -np.log(expected[range(60), labels]), rtol=0, atol=1e-4)

    class_of = {str(k): (int((labels == k).sum()), int((table.predicted == k).sum())) for k in range(10)}
    rows = {line.split()[0]: line.split()[1:3] for line in printed.splitlines() if line.split()[:1] and len(line) > 20}
    assert {name: tuple(map(int, rows[name])) for name in class_of} == class_of

    monkeypatch.setattr(evaluation, "restored", None)  # no network is made
    again = evaluation.evaluate(compose("evaluate", [f"run={file}"]))
    assert again == metrics
    assert "every metric equals that of the network" in capsys.readouterr().out


def test_by_class_is_counted_by_hand():
    label, predicted = torch.tensor([0, 0, 0, 1, 1, 3]), torch.tensor([0, 1, 1, 1, 0, 3])
    parts = [{"label": label[:2], "predicted": predicted[:2]}, {"label": label[2:], "predicted": predicted[2:]}]
    a, b, c, d = predictions.by_class(parts, ["a", "b", "c", "d"])
    assert a == (0, "a", 3, 2, pytest.approx(1 / 3), 0.5, "b (2)")
    assert b == (1, "b", 2, 3, 0.5, pytest.approx(1 / 3), "a (1)")
    assert (c.samples, c.predicted, c.taken_for) == (0, 0, "")
    assert math.isnan(c.recall)
    assert math.isnan(c.precision)
    assert d == (3, "d", 1, 1, 1.0, 1.0, "")


def test_what_is_no_file_of_predictions_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"run=.*a\.parquet: there is no such file"):
        predictions.read(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"is no file of predictions"):
        predictions.read(tmp_path / "b.parquet")
    pd.DataFrame({"index": [1]}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(UserError, match=r"is no file of predictions"):
        predictions.read(tmp_path / "c.parquet")


@pytest.mark.full
def test_maps_have_none(runs, parser):
    with pytest.raises(UserError, match="is for runs that classify images, this one is of segmentation"):
        evaluation.evaluate(compose("evaluate", [f"run={parser.id}", "predictions=true", f"paths.runs_dir={runs}"]))
