"""Anchors: records from another version of the code are this one's where both give the same numbers."""

import contextlib
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import yaml

from paperzoo.config import compose
from paperzoo.errors import UserError
from paperzoo.reports import anchor, golden_row, record_sources, rederive, write
from paperzoo.training import train

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["model=resnet", "model.depth=11", "trainer=cpu", "trainer.max_epochs=1", "logger=none", "data.limit_train=64",
         "data.batch_size=16", "data.validation=50", "data.test=50"]  # fmt: skip
WIDTHS = (4, 6)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A report of two runs of this code."""
    root = tmp_path_factory.mktemp("report")
    with pytest.MonkeyPatch.context() as patch:
        for width in WIDTHS:
            words = [*WORDS, "seed=0", f"model.width={width}"]
            patch.setattr(sys, "argv", ["src/train.py", *words])
            train(compose("train", [*words, f"paths.runs_dir={root / 'runs'}"]))
    parameters = {key: {"value": yaml.safe_load(value)} for key, _, value in (word.partition("=") for word in WORDS)}
    parameters |= {"model.width": {"values": list(WIDTHS)}, "seed": {"values": [0]}}
    command = ["${env}", "python", "${program}", "${args_no_hyphens}"]
    sweep = {"program": "src/train.py", "method": "grid", "command": command, "parameters": parameters}
    (root / "widths.yaml").write_text(yaml.safe_dump(sweep))
    write.make(str(root / "widths.yaml"), source="local", runs_dir=str(root / "runs"), out=str(root / "reports"))
    return root / "reports" / "widths"


@pytest.fixture
def copied(report, tmp_path):
    shutil.copytree(report, tmp_path / "reports" / "widths")
    return tmp_path / "reports" / "widths"


class InForks(anchor.Code):
    """Its runs are forks of the test's process, which import that code anew: a third of a server's time."""

    def __init__(self, source, folder):
        self.source, self.server = source, None

    def train(self, words):
        done = forked.run(self.source / "train.py", *words, source=self.source)
        assert done.returncode == 0, done.stderr


@pytest.fixture(autouse=True)
def _kept_here(tmp_path, monkeypatch):
    monkeypatch.setattr(anchor, "BUILD", tmp_path / "anchors")


@pytest.mark.full
def test_an_anchoring_that_was_stopped_goes_on(copied, monkeypatch):
    compared = []

    def compare(entry, versions, short):
        width = entry.config["model"]["width"]
        compared.append(width)
        if len(compared) == 2:
            raise KeyboardInterrupt
        return 5, width == 4

    monkeypatch.setattr(anchor, "_compare", compare)
    monkeypatch.setattr(anchor, "codes", lambda checkout: contextlib.nullcontext(()))
    monkeypatch.setattr(anchor, "_commit", lambda place: "abc")
    with pytest.raises(KeyboardInterrupt):
        anchor.main(str(copied), str(ROOT), data_dir="data")
    anchor.main(str(copied), str(ROOT), data_dir="data")
    assert compared == [4, 6, 6]
    shown = {entry.provenance.anchored.shown_by for entry in record_sources.of_report(copied).records}
    assert all("the same 5 metrics, bit for bit, in short runs of 1 variant on" in line for line in shown)
    assert all(line.endswith("the metrics agree to 1e-06 in float64") and "model.width=6" in line for line in shown)
    monkeypatch.setattr(anchor, "_compare", lambda entry, versions, short: (5, True))
    monkeypatch.setattr(anchor, "_commit", lambda place: "def")
    anchor.main(str(copied), str(ROOT), data_dir="data")  # later code equals this one, and not the records'
    page = (copied / "report.md").read_text()
    assert "it rounds otherwise since" in page
    assert "commits def and def gave the same 10 metrics, bit for bit" in page


def test_a_golden_row_is_checked_with_the_report(copied, capsys):
    anchor.main(str(copied), data_dir="data")
    assert rederive.reproduce(str(copied)) == 0
    assert "first 3 losses in float64 are as written" in capsys.readouterr().out
    golden = yaml.safe_load((copied / golden_row.FILE).read_text())
    golden["losses"][2] *= 1 + 1e-5
    (copied / golden_row.FILE).write_text(yaml.safe_dump(golden))
    assert rederive.reproduce(str(copied)) == 1
    assert "NOT reproduced" in capsys.readouterr().out
    golden["seed"] = 7
    (copied / golden_row.FILE).write_text(yaml.safe_dump(golden))
    assert rederive.reproduce(str(copied)) == 1


@pytest.mark.full
@pytest.mark.parametrize("same", [True, False])
def test_an_older_code_must_give_the_same_numbers(same, copied, tmp_path, monkeypatch):
    monkeypatch.setattr(anchor, "Code", InForks)
    older = tmp_path / "older"
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, older / name, ignore=shutil.ignore_patterns("__pycache__"))
    schedules = older / "src/paperzoo/tasks/schedules.py"
    text = schedules.read_text()
    schedules.write_text(text + "\nADDED = 1\n" if same else text.replace("math.cos(", "1.01 * math.cos("))
    for command in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "older"],
    ):
        subprocess.run(["git", "-C", older, *command], check=True)
    before = record_sources.of_report(copied).records
    made_by = [
        e.model_copy(update={"provenance": e.provenance.model_copy(update={"code_version": "x"})}) for e in before
    ]
    (copied / record_sources.RECORDS).write_text("".join(record_sources.written(made_by)))
    if not same:
        with pytest.raises(UserError, match=r"differ in float64: epoch [12]: "):
            anchor.main(str(copied), str(older), data_dir="data")
        return
    anchor.main(str(copied), str(older), data_dir="data")
    after = record_sources.of_report(copied).records
    assert [entry.identity for entry in after] == [entry.identity for entry in before]  # this code's own
    assert {entry.provenance.anchored.code_version for entry in after} == {"x"}
    assert "bit for bit" in after[0].provenance.anchored.shown_by
    assert rederive.reproduce(str(copied)) == 0


def test_a_folder_that_is_no_report_is_one_line(tmp_path):
    with pytest.raises(UserError, match=r"a report's folder holds runs\.jsonl"):
        anchor.main(str(tmp_path), data_dir="data")
