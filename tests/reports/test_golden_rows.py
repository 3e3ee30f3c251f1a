"""Golden rows run where their data is, and say what is missing where it is not."""

import json

import pytest

from paperzoo import cards
from paperzoo.reports import golden_row, write

PLACES = {
    "by_heart": "coco_mini",
    "mixup_random_labels": "fashion_mnist",
    "lstm_variants": "tiny_shakespeare/input.txt",
}


@pytest.mark.parametrize(("name", "missing"), PLACES.items())
def test_a_golden_row_without_its_data_is_not_run(name, missing, tmp_path):
    report = write.load(cards.REPORTS / name)
    fine, line = golden_row.difference(cards.REPORTS / name, report, str(tmp_path))
    assert fine
    assert line.endswith(f"not run, {tmp_path} has no {missing}; give data_dir= or DATA_DIR")


@pytest.mark.parametrize(("name", "there"), [*PLACES.items(), ("mixup_random_labels", "fashion_mnist_random_labels")])
def test_a_golden_row_with_its_data_is_run(name, there, tmp_path):
    (tmp_path / there).mkdir(parents=True)
    record = json.loads((cards.REPORTS / name / "runs.jsonl").read_text().splitlines()[0])
    assert golden_row.missing(record["config"]["data"], str(tmp_path)) is None
