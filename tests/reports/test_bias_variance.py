"""Bias and variance of a report's variants: the definitions, the intervals, and the pages."""

import json
import sys
from itertools import combinations

import numpy as np
import pytest
import yaml
from scipy import stats

from paperzoo.config import compose
from paperzoo.reports import bias_variance, record_sources, rederive, write
from paperzoo.runs import record
from paperzoo.training import train

RUNS, IMAGES, CLASSES = 7, 50, 4


def drawn(seed):
    """Classes that runs predict, and labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(CLASSES, size=IMAGES)
    other = random.integers(CLASSES, size=(RUNS, IMAGES))
    return np.where(random.random((RUNS, IMAGES)) < 0.6, labels, other), labels


def shares(predictions, labels):
    """The matrix that ``decompose`` takes."""
    found = (predictions[:, None] != predictions[None]).mean(-1)
    np.fill_diagonal(found, (predictions != labels).mean(1))
    return found


def test_it_is_kohavi_and_wolperts_decomposition_without_the_bias_of_few_runs():
    predictions, labels = drawn(0)
    naive_variance = naive_bias = 0.0
    for image in range(IMAGES):
        p = [np.mean(predictions[:, image] == k) for k in range(CLASSES)]
        naive_variance += (1 - sum(share**2 for share in p)) / 2 / IMAGES
        naive_bias += sum((float(labels[image] == k) - p[k]) ** 2 for k in range(CLASSES)) / 2 / IMAGES
    line = bias_variance.decompose("x", shares(predictions, labels))
    assert line.variance.mean == pytest.approx(100 * naive_variance * RUNS / (RUNS - 1), rel=1e-12)
    assert line.bias.mean == pytest.approx(100 * (naive_bias - naive_variance / (RUNS - 1)), rel=1e-12)
    assert line.error.mean == pytest.approx(line.bias.mean + line.variance.mean, rel=1e-12)
    pairs = [np.mean(predictions[a] != predictions[b]) / 2 for a, b in combinations(range(RUNS), 2)]
    assert line.variance.mean == pytest.approx(100 * np.mean(pairs), rel=1e-12)


def test_the_jackknife_of_a_mean_is_students_interval():
    predictions, labels = drawn(1)
    wrong = 100 * (predictions != labels).mean(1)
    line = bias_variance.decompose("x", shares(predictions, labels))
    low, high = stats.t.interval(0.95, RUNS - 1, loc=wrong.mean(), scale=stats.sem(wrong))
    assert (line.error.low, line.error.high) == pytest.approx((low, high), rel=1e-12)


def test_a_difference_is_paired_and_runs_that_agree_have_no_variance():
    predictions, labels = drawn(2)
    same = np.broadcast_to(predictions[0], predictions.shape)
    line = bias_variance.decompose("x", shares(same, labels), shares(predictions, labels))
    whole = bias_variance.decompose("y", shares(predictions, labels))
    assert line.variance.mean == 0
    assert line.bias.mean == pytest.approx(100 * np.mean(same[0] != labels), rel=1e-12)
    assert line.variance_difference.mean == pytest.approx(-whole.variance.mean, rel=1e-12)
    assert line.bias_difference.low < line.bias_difference.mean < line.bias_difference.high
    twice = bias_variance.decompose("x", shares(predictions, labels), shares(predictions, labels))
    assert (twice.variance_difference.low, twice.variance_difference.high) == (0, 0)


@pytest.mark.full
def test_the_runs_of_a_report_are_asked_and_its_pages_show_it(tmp_path, monkeypatch):
    words = ["model=resnet", "model.depth=11", "trainer=cpu", "trainer.max_epochs=1", "logger=none",
             "data.limit_train=64", "data.batch_size=16", "data.validation=50", "data.test=50"]  # fmt: skip
    errors = {}
    for width in (2, 4):
        for seed in range(3):
            line = [*words, f"seed={seed}", f"model.width={width}"]
            monkeypatch.setattr(sys, "argv", ["src/train.py", *line])
            entry = train(compose("train", [*line, f"paths.runs_dir={tmp_path / 'runs'}"]))
            errors.setdefault(width, []).append(1 - entry.results["last"].metrics["test/top1"])
    parameters = {key: {"value": yaml.safe_load(value)} for key, _, value in (word.partition("=") for word in words)}
    parameters |= {"model.width": {"values": [2, 4]}, "seed": {"values": [0, 1, 2]}}
    command = ["${env}", "python", "${program}", "${args_no_hyphens}"]
    sweep = {"program": "src/train.py", "method": "grid", "command": command, "parameters": parameters}
    (tmp_path / "widths.yaml").write_text(yaml.safe_dump(sweep))
    places = {"source": "local", "runs_dir": str(tmp_path / "runs"), "out": str(tmp_path / "reports")}
    write.make(str(tmp_path / "widths.yaml"), **places)
    folder = tmp_path / "reports" / "widths"
    plain = (folder / "report.md").read_text()
    assert "Bias and variance" not in plain

    bias_variance.main(str(folder), runs_dir=places["runs_dir"], data_dir="data")
    lines = write.load(folder).decompositions
    assert [line.error.mean for line in lines] == pytest.approx([100 * np.mean(errors[w]) for w in (2, 4)], abs=1e-4)
    assert lines[0].bias_difference is None
    assert lines[1].bias_difference.n == 3
    assert "## Bias and variance" in (folder / "report.md").read_text()
    assert "Bias and variance" in (folder / "index.html").read_text()
    assert rederive.reproduce(str(folder)) == 0

    anchored = []  # other code gives runs other names; an anchor keeps the one that was asked
    for entry in record_sources.of_report(folder).records:
        anchor = record.Anchor(id=entry.id, code_version="0" * 12, shown_by="a test")
        provenance = entry.provenance.model_copy(update={"anchored": anchor})
        anchored.append(entry.model_copy(update={"id": "0000000000-1", "provenance": provenance}))
    assert bias_variance.read(folder, anchored)[0] is not None

    found = json.loads((folder / bias_variance.FILE).read_text())
    found["runs"][0] = "0000000000-1"
    (folder / bias_variance.FILE).write_text(json.dumps(found))
    report = write.load(folder)
    assert report.decompositions == ()
    assert any(problem.startswith("disagreement.json is of other runs") for problem in report.problems)
