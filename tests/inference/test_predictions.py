"""A run's predictions as a file: the network's, sample by sample, and the same metrics without it."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from composed import compose
from contract import configured
from PIL import Image

import paperzoo
from paperzoo import evaluation
from paperzoo.data.images.maps import IGNORED
from paperzoo.errors import UserError
from paperzoo.predictions import classes, files, maps
from paperzoo.predictions.kind import Given
from paperzoo.runs import folders
from paperzoo.tasks.segmentation import scores
from paperzoo.training import load_data


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
    a, b, c, d = classes.by_class(parts, ["a", "b", "c", "d"])
    assert a == (0, "a", 3, 2, pytest.approx(1 / 3), 0.5, "b (2)")
    assert b == (1, "b", 2, 3, 0.5, pytest.approx(1 / 3), "a (1)")
    assert (c.samples, c.predicted, c.taken_for) == (0, 0, "")
    assert math.isnan(c.recall)
    assert math.isnan(c.precision)
    assert d == (3, "d", 1, 1, 1.0, 1.0, "")


def test_what_is_no_file_of_predictions_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"run=.*a\.parquet: there is no such file"):
        files.read(tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(UserError, match=r"is no file of predictions"):
        files.read(tmp_path / "b.parquet")
    pd.DataFrame({"index": [1]}).to_parquet(tmp_path / "c.parquet")
    with pytest.raises(UserError, match=r"is no file of predictions"):
        files.read(tmp_path / "c.parquet")


@pytest.mark.full
def test_counts_of_pixels_are_those_of_the_maps_and_give_the_metrics_again(runs, parser, capsys, monkeypatch):
    words = [f"run={parser.id}", "predictions=true", "maps=true", "accelerator=cpu", f"paths.runs_dir={runs}"]
    metrics = evaluation.evaluate(compose("evaluate", words))
    assert metrics == {k: v for k, v in parser.results["last"].metrics.items() if k in metrics}
    folder = folders.find(runs, parser.id) / "predictions"
    assert sorted(path.name for path in folder.iterdir()) == ["test_last.parquet", "test_last_maps"]
    printed = capsys.readouterr().out

    data = load_data(configured("strip_pooling", "data=digit_maps", "trainer.threads=1"))
    batches = [data.on_after_batch_transfer(batch, 0) for batch in data.test_dataloader()]
    labels = torch.cat([batch.targets for batch in batches]).numpy()
    stored = [Image.open(folder / "test_last_maps" / f"{n}.png") for n in range(len(labels))]
    assert {image.mode for image in stored} == {"P"}
    predicted = np.stack([np.asarray(image) for image in stored])
    logits = paperzoo.load(parser.id, runs_dir=runs)(torch.cat([batch.inputs for batch in batches]))
    best = logits.topk(2, dim=1).values
    sure = ((best[:, 0] - best[:, 1]) > 1e-4).numpy()  # where float32 cannot have decided otherwise
    assert sure.mean() > 0.9
    assert (predicted == logits.argmax(1).numpy())[sure].all()

    table = pd.read_parquet(folder / "test_last.parquet")
    assert table["index"].tolist() == list(range(len(labels)))
    losses = torch.nn.functional.cross_entropy(logits.double(), torch.from_numpy(labels), reduction="none").numpy()
    union = np.zeros(11, int)
    for row, truth, given, loss in zip(table.itertuples(), labels, predicted, losses, strict=True):
        assert row.pixels == truth.size
        assert row.pixel_accuracy == (truth == given).mean()
        assert row.loss == pytest.approx(loss.mean(), rel=1e-4)
        for k in range(11):
            assert row.intersection[k] == ((truth == k) & (given == k)).sum()
            assert row.union[k] == ((truth == k) | (given == k)).sum()
            assert row.truth[k] == (truth == k).sum()
        union += row.union
    iou = np.stack(table.intersection).sum(0) / union
    assert metrics["test/miou"] == pytest.approx(np.nanmean(iou), rel=1e-12)
    paper = next(line.split() for line in printed.splitlines() if line.startswith("paper "))
    assert paper[1:3] == [str(len(labels)), f"{(labels == 0).sum():,}"]
    assert paper[4] == f"{100 * iou[0]:.2f}"

    monkeypatch.setattr(evaluation, "restored", None)  # no network is made
    again = evaluation.evaluate(compose("evaluate", [f"run={folder / 'test_last.parquet'}"]))
    assert again.pop("test/loss") == pytest.approx(metrics.pop("test/loss"), rel=1e-9)
    assert again == metrics
    assert "every metric equals that of the network" in capsys.readouterr().out


def test_pixels_without_a_label_count_nowhere():
    labels = torch.tensor([[[0, 0, IGNORED], [1, IGNORED, 2]], [[IGNORED] * 3] * 2])
    predicted = torch.tensor([[[0, 1, 1], [1, 0, 0]], [[0, 1, 2]] * 2])
    losses = torch.tensor([0.5, 1.0, 0.25, 2.25]).double()  # of the labelled pixels, in their order
    rows = maps.Maps().rows(Given(torch.tensor([4, 5]), predicted, labels, losses), 4)
    assert rows["pixels"].tolist() == [4, 0]
    assert rows["truth"].tolist() == [[2, 1, 1, 0], [0] * 4]
    assert rows["intersection"].tolist() == [[1, 1, 0, 0], [0] * 4]
    assert rows["union"].tolist() == [[3, 2, 1, 0], [0] * 4]
    assert rows["pixel_accuracy"][0] == 0.5
    assert rows["loss"][0] == 1.0
    assert rows["pixel_accuracy"][1].isnan()
    assert rows["loss"][1].isnan()
    parts = [{name: values[:1] for name, values in rows.items()}, {name: values[1:] for name, values in rows.items()}]
    metrics = maps.Maps().metrics_of(parts, 4)
    assert metrics == {"loss": 1.0, "miou": pytest.approx((1 / 3 + 1 / 2 + 0) / 3), "pixel_accuracy": 0.5,
                       "class_accuracy": pytest.approx((1 / 2 + 1 + 0) / 3)}  # fmt: skip
    assert metrics["miou"] == scores(*(torch.tensor(v) for v in ([1, 1, 0, 0], [2, 1, 1, 0], [2, 2, 0, 0])))["miou"]
    a, b, c, d = maps.by_class(parts, ["a", "b", "c", "d"])
    assert a == (0, "a", 1, 2, 2, pytest.approx(1 / 3), 0.5)
    assert b == (1, "b", 1, 1, 2, 0.5, 1.0)
    assert c == (2, "c", 1, 1, 0, 0.0, 0.0)
    assert (d.images, d.pixels, d.predicted) == (0, 0, 0)
    assert math.isnan(d.iou)
    assert math.isnan(d.accuracy)


@pytest.mark.full
def test_what_has_no_predictions_is_one_line(runs, classifier, detector):
    for entry, words, line in (
        (detector, ["predictions=true"], "is for runs that do classification or segmentation of images, this is detec"),
        (classifier, ["predictions=true", "maps=true"], "maps=true: is for runs of segmentation, this one is of class"),
        (classifier, ["maps=true"], "maps=true: goes with predictions=true"),
    ):
        with pytest.raises(UserError, match=line):
            evaluation.evaluate(compose("evaluate", [f"run={entry.id}", *words, f"paths.runs_dir={runs}"]))
