"""A run's predictions as a file: the network's, sample by sample, and the same metrics without it."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from composed import compose
from contract import configured
from PIL import Image
from pycocotools import mask as coco

import paperzoo
from paperzoo import evaluation
from paperzoo.data.images.maps import IGNORED
from paperzoo.data.interface import Batch
from paperzoo.detection.masks import encode_rle
from paperzoo.errors import UserError
from paperzoo.inference import loading
from paperzoo.predictions import classes, files, maps, objects
from paperzoo.predictions.keeping import Kept, KeptObjects
from paperzoo.predictions.kind import Given
from paperzoo.runs import folders
from paperzoo.tasks.detection import at_size, sizes_of
from paperzoo.tasks.making import make_module
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


def of_image(label, box, rows, **more):
    """An object on an image of (60, 80), its mask the first rows of its box."""
    x, y, w, _ = box
    mask = np.zeros((1, 60, 80), bool)
    mask[0, y : y + rows, x : x + w] = True
    (code,) = encode_rle(mask)
    return {"bbox": [float(side) for side in box], "category_id": label, "segmentation": code, **more}


@pytest.mark.parametrize("paper", ["mask_rcnn", "ssd"])
def test_objects_in_the_file_give_average_precision_as_by_hand(paper, tmp_path, capsys):
    """Of two objects of class 0 one is found, with an IoU of boxes of 1 and of masks of 0.72; one find is wrong."""
    box = (10, 10, 20, 25)
    there = [
        [of_image(0, box, 25, iscrowd=0, area=500.0), of_image(1, (40, 5, 30, 30), 30, iscrowd=1, area=900.0)],
        [of_image(0, box, 25, iscrowd=0, area=500.0)],
        [],
    ]
    found = [[of_image(0, box, 18, score=0.9)], [], [of_image(2, (5, 5, 9, 9), 9, score=0.8)]]
    segments = paper == "mask_rcnn"
    if not segments:
        found = [[{k: v for k, v in one.items() if k != "segmentation"} for one in own] for own in found]
    config = configured(paper)
    module = make_module(config, load_data(config))
    kept = KeptObjects(module, "detection")
    with kept:
        for index in ([0, 1], [2]):
            module.collected += [((60, 80), there[k], found[k]) for k in index]
            kept.on_test_batch_end(None, module, None, Batch(None, None, torch.tensor(index)), 0)
    metrics = {f"test/{name}": value for name, value in module.compute("test").items()}
    assert metrics["test/box_ap"] == pytest.approx(51 / 101)  # a recall of one half at a precision of 1
    assert not segments or metrics["test/mask_ap"] == pytest.approx(51 / 101 / 2)  # at half of the IoUs

    names = [f"[{k}]" for k in range(10)]
    about = {"run": "abc", "weights": "last", "split": "test", "epoch": 1, "metrics": metrics, "class_names": names}
    measures = [metric._asdict() for metric in type(module).metrics]
    kept.store(tmp_path / "a.parquet", about | {"measures": measures}, "")
    printed = capsys.readouterr().out
    table = pd.read_parquet(tmp_path / "a.parquet")
    assert table["index"].tolist() == [0, 1, 2]
    assert table[["height", "width"]].to_numpy().tolist() == [[60, 80]] * 3
    stored = [[json.loads(text) for text in table[name]] for name in ("truth", "found")]
    assert [[len(own) for own in part] for part in stored] == [[2, 1, 0], [1, 0, 1]]
    assert all(("segmentation" in one) == segments for part in stored for own in part for one in own)
    assert stored[1][0][0]["bbox"] == list(box)
    assert stored[0][0][1]["iscrowd"] == 1
    assert not segments or coco.area(stored[1][0][0]["segmentation"]) == 360

    assert files.evaluate(tmp_path / "a.parquet") == metrics
    again = capsys.readouterr().out
    assert "every metric equals that of the network" in again
    cells = ["25.25", "%", "50.50", "%"] * segments + ["50.50", "%", "50.50", "%"]
    for text in (printed, again):
        rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("[")}
        assert rows["[0]"] == ["2", "1", *cells]
        assert rows["[1]"] == ["0", "0"]  # a crowd alone
        assert rows["[2]"] == ["0", "1"]


def test_a_split_without_detections_has_a_table():
    there = [[{"bbox": [1.0, 1.0, 5.0, 5.0], "category_id": 1, "iscrowd": 0, "area": 25.0}], []]
    batch = objects.Objects().rows([((9, 9), own, []) for own in there], 2)
    assert objects.Objects().metrics_of([batch], 2)["box_ap"] == 0.0
    a, b = objects.of_classes([batch], ["a", "b"])
    assert (a.objects, b.objects, b.detections) == (0, 1, 0)
    assert b.figures == {"box AP": 0.0, "box AP50": 0.0}
    assert math.isnan(a.figures["box AP"])


@pytest.mark.full
def test_objects_are_the_networks_and_give_its_metrics_without_it(runs, detector, capsys, monkeypatch):
    words = [f"run={detector.id}", "predictions=true", "accelerator=cpu", f"paths.runs_dir={runs}"]
    metrics = evaluation.evaluate(compose("evaluate", words))
    assert metrics == {k: v for k, v in detector.results["last"].metrics.items() if k in metrics}
    folder = folders.find(runs, detector.id) / "predictions"
    assert [path.name for path in folder.iterdir()] == ["test_last.parquet"]
    table = pd.read_parquet(folder / "test_last.parquet")

    data = load_data(configured("mask_rcnn"))
    module = loading.read(detector.id, runs_dir=runs).module
    wanted, there = [], []
    for batch in data.test_dataloader():
        own = data.on_after_batch_transfer(batch, 0)
        with torch.no_grad():
            every = module.network.detect(own.inputs, sizes_of(own), **module.detecting)
        wanted += [at_size(one, t["size"], t["original"]) for one, t in zip(every, own.targets, strict=True)]
        there += own.targets
    assert table["index"].tolist() == list(range(len(wanted)))
    total = 0
    for row, one, target in zip(table.itertuples(), wanted, there, strict=True):
        assert (row.height, row.width) == target["original"]
        assert [o["bbox"] for o in json.loads(row.truth)] == [o["bbox"] for o in target["truth"]]
        found = json.loads(row.found)
        assert [o["score"] for o in found] == pytest.approx(one["scores"].tolist(), abs=1e-5)
        assert all(o["segmentation"]["size"] == [row.height, row.width] for o in found)
        total += len(found)
    assert total > 0

    validated = evaluation.evaluate(compose("evaluate", [*words, "split=val"]))
    monkeypatch.setattr(evaluation, "restored", None)  # no network is made
    assert evaluation.evaluate(compose("evaluate", [f"run={folder / 'val_last.parquet'}"])) == validated
    capsys.readouterr()
    assert evaluation.evaluate(compose("evaluate", [f"run={folder / 'test_last.parquet'}"])) == metrics
    printed = capsys.readouterr().out
    assert "every metric equals that of the network" in printed
    every = [[o for text in table[name] for o in json.loads(text)] for name in ("truth", "found")]
    counts = [sum(o["category_id"] == 3 for o in part) for part in every]
    three = next(line.split() for line in printed.splitlines() if line.startswith("3 "))
    assert three[1:3] == [f"{count:,}" for count in counts]


def test_another_task_has_no_predictions():
    with pytest.raises(UserError, match="classification or segmentation or detection of images, this is language"):
        Kept(None, "language")


@pytest.mark.full
def test_what_has_no_predictions_is_one_line(runs, classifier, detector):
    for entry, words, line in (
        (
            detector,
            ["predictions=true", "maps=true"],
            "maps=true: is for runs of segmentation, this one is of detection",
        ),
        (classifier, ["predictions=true", "maps=true"], "maps=true: is for runs of segmentation, this one is of class"),
        (classifier, ["maps=true"], "maps=true: goes with predictions=true"),
    ):
        with pytest.raises(UserError, match=line):
            evaluation.evaluate(compose("evaluate", [f"run={entry.id}", *words, f"paths.runs_dir={runs}"]))
