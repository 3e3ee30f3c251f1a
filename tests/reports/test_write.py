"""The folder of a report: everything in it follows from its records, byte by byte."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import pytest
import yaml
from synthetic import record, records, sweep

from paperzoo.errors import UserError
from paperzoo.reports import record_sources, rederive, write
from paperzoo.reports.record_sources import Found
from paperzoo.runs.publishing import published

ROOT = Path(__file__).resolve().parents[2]
HOSTILE = "<script>alert(1)</script>|`x`\n# *y*"


def made(root: Path, given: Found | None = None, **changes) -> Path:
    """A report's folder ``x`` with its inputs."""
    plain = sweep(**changes).model_dump(mode="json", exclude_unset=True)
    (root / "x.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    folder = root / "reports" / "x"
    write.save(given or Found([published(entry) for entry in records()]), root / "x.yaml", folder)
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """A report that is written, with an index."""
    folder = made(tmp_path_factory.mktemp("made"), Found([published(e) for e in records()], ["resnet/a/1: damaged"]))
    (folder / "report.yaml").write_text("title: T\nquestion: '" + HOSTILE.replace("\n", " ") + "'\nscale: [small]\n")
    write.derive(folder, folder)
    write.write_index(folder.parent)
    return folder


def test_what_is_written(report):
    names = {path.name for path in report.iterdir()}
    assert names >= {"index.html", "report.md", "runs.csv", "runs.jsonl", "x.yaml", "problems.txt", "report.yaml"}
    assert {path.stem for path in report.glob("*.svg")} == {path.stem for path in report.glob("*.png")} != set()
    everything = b"".join(path.read_bytes() for path in report.iterdir())
    assert b"/home/someone" not in everything
    assert b"someones-machine" not in everything


def test_every_form_says_the_same(report):
    got = write.load(report)
    (line,) = got.comparisons
    shown = f"+{line.difference.mean:.2f}"
    for name in ("report.md", "index.html"):
        text = (report / name).read_text()
        assert shown in text
        assert "resnet/a/1: damaged" in text.replace("\\", "")
    rows = list(csv.DictReader((report / "runs.csv").open()))
    assert [row["run"] for row in rows] == [entry.id for variant in got.variants for entry in variant.runs]
    scores = [100 * float(row["test/top1"]) for row in rows]
    assert scores == [score for variant in got.variants for score in variant.scores]


def test_names_are_no_markup(report):
    page, text = (report / "index.html").read_text(), (report / "report.md").read_text()
    assert "<script>alert" not in page
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\\|\\`x\\` \\# \\*y\\*" in text


def test_the_same_records_in_another_order_give_the_same_bytes(report, tmp_path, capsys):
    assert rederive.reproduce(str(report)) == 0
    assert capsys.readouterr().out.endswith("files re-derived byte by byte\n")
    again = made(tmp_path, Found([published(entry) for entry in records()[::-1]], ["resnet/a/1: damaged"]))
    assert (again / "runs.jsonl").read_bytes() == (report / "runs.jsonl").read_bytes()


@pytest.mark.parametrize(("change", "line"), [
    (lambda folder: _replace(folder / "report.md", "is better", "is worse"), r"report.md, line 5: .*is worse.* is"),
    (lambda folder: (folder / "runs.csv").unlink(), r"runs.csv is missing"),
    (lambda folder: (folder / "old.svg").write_text(""), r"old.svg follows from no record"),
    (lambda folder: (folder / "variants.png").write_bytes(b"PNG"), r"variants.png differs"),
])  # fmt: skip
def test_the_first_difference_is_named(change, line, report, tmp_path):
    folder = tmp_path / "x"
    shutil.copytree(report, folder)
    change(folder)
    (found,) = rederive._differences(folder, report)
    assert re.search(line, found)


def test_other_records_give_another_report(report, tmp_path, capsys):
    folder = tmp_path / "x"
    shutil.copytree(report, folder)
    _replace(folder / "runs.jsonl", '"test/loss":0.5', '"test/loss":0.6')
    assert rederive.reproduce(str(folder)) == 1
    assert re.match(r"NOT re-derived: .*runs.csv, line 2: .* is there, .* is derived", capsys.readouterr().out)
    _replace(folder / "runs.jsonl", '"test/top1":0.8', '"test/top1":0.7')  # moves every figure, too
    assert rederive.reproduce(str(folder)) == 1
    assert "runs.csv, line 2: " in capsys.readouterr().out


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_all_reports_and_their_index(report, capsys):
    assert rederive.reproduce(str(report.parent)) == 0
    assert "index.html: re-derived byte by byte" in capsys.readouterr().out
    (report.parent / "index.html").write_text("old")
    assert rederive.reproduce(str(report.parent)) == 1


def test_an_empty_sweep_makes_a_report(tmp_path):
    folder = made(tmp_path, Found())
    written = write.derive(folder, folder)
    assert written.report.problems == (
        "no run of this sweep was found; `python src/sweep.py sweeps/x.yaml` makes them",)  # fmt: skip
    assert {"index.html", "report.md", "runs.csv"} <= {path.name for path in written.files}


def test_a_search_makes_a_report(tmp_path):
    given = [published(record(model, 0, lr=0.01 * 1.5**i, minute=i)) for i, model in enumerate(("resnet", "scnet") * 4)]
    folder = made(tmp_path, Found(given), method="random")
    text = (folder / "report.md", write.derive(folder, folder))[0].read_text()
    assert "## What mattered" in text
    assert "## Against the baseline" not in text


def verb(name: str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return forked.run(ROOT / "src" / name, *words, cwd=cwd)


def test_the_verbs(tmp_path):
    made(tmp_path, Found())
    (tmp_path / "runs").mkdir()
    got = verb("report.py", "x.yaml", cwd=tmp_path)
    assert got.returncode == 0, got.stderr
    assert "note: no run of this sweep was found" in got.stdout
    assert (tmp_path / "reports" / "index.html").is_file()
    got = verb("reproduce.py", "reports/x", "row=scnt", cwd=tmp_path)
    assert (got.returncode, got.stderr) == (
        2, "error: row=scnt: there is no such variant, there are resnet, scnet. Did you mean scnet?\n")  # fmt: skip


def make(root: Path, source: str = "local") -> write.Written:
    return write.make(str(root / "x.yaml"), source=source, runs_dir=str(root / "runs"), out=str(root / "reports"))


def test_a_report_is_written_anew_from_its_own_records_and_stays_where_no_run_is_found(report, tmp_path):
    folder = made(tmp_path, Found([published(e) for e in records()], ["resnet/a/1: damaged"]))
    shutil.copyfile(report / "report.yaml", folder / "report.yaml")
    with pytest.raises(
        UserError, match=r"^source=local: holds no run of x, so the report in .*x stays as it is; source="
    ):
        make(tmp_path)
    (folder / "old.svg").write_text("")
    make(tmp_path, str(folder))
    moved = ("places.json", "report.md", "index.html")  # with the commands of where it stands now
    files = {path.name: path.read_bytes() for path in report.iterdir() if path.name not in moved}
    there = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: content for name, content in there.items() if name not in moved} == files
    assert "old.svg" not in there


def test_a_report_that_is_there_stays_whole_when_the_new_one_is_interrupted(report, tmp_path, monkeypatch):
    shutil.copytree(report.parent, tmp_path / "reports")
    (tmp_path / "other").mkdir()
    folder = made(tmp_path / "other", Found([published(e) for e in records(seeds=5)]))
    shutil.copyfile(folder.parents[1] / "x.yaml", tmp_path / "x.yaml")
    before = {path: path.read_bytes() for path in (tmp_path / "reports").rglob("*.*")}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "write_page", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, str(folder))
    assert {path: path.read_bytes() for path in (tmp_path / "reports").rglob("*.*")} == before


def test_the_commands_of_a_report_that_stands_elsewhere_work(tmp_path, capsys):
    made(tmp_path)
    written = write.make(str(tmp_path / "x.yaml"), source=str(tmp_path / "reports" / "x"), runs_dir="runs",
                         out=str(tmp_path / "out"))  # fmt: skip
    folder = tmp_path / "out" / "x"
    for command in (f"python src/sweep.py {tmp_path}/x.yaml", f"python src/reproduce.py {folder}",
                    f"python src/report.py {tmp_path}/x.yaml out={tmp_path}/out"):  # fmt: skip
        assert command in written.report.commands.values()
        assert command in (folder / "index.html").read_text()
    assert rederive.reproduce(str(folder)) == 0
    assert "byte by byte" in capsys.readouterr().out
    moved = tmp_path / "reports" / "x"
    write.make(str(tmp_path / "x.yaml"), source=str(folder), runs_dir="runs", out=str(tmp_path / "reports"))
    assert f"python src/reproduce.py {moved}" in (moved / "index.html").read_text()


def test_a_sweep_may_not_be_called_as_the_description(tmp_path):
    (tmp_path / "report.yaml").write_text((made(tmp_path).parents[1] / "x.yaml").read_text())
    with pytest.raises(UserError, match=r"report.yaml: a report's own description is called report.yaml"):
        write.make(str(tmp_path / "report.yaml"), source="local", runs_dir="runs", out=str(tmp_path))


def test_a_variant_is_run_again_from_the_reports_records(report, monkeypatch, capsys):
    ran = []

    def again(entry, paths, tolerance):
        ran.append((entry.id, paths.runs_dir, tolerance))
        return int(entry.seed == 4)

    monkeypatch.setattr("paperzoo.reproduction.again", again)
    options = {"runs_dir": "r", "data_dir": "d", "tolerance": 0.1}
    assert rederive.rerun(str(report), "scnet", None, **options) == 1
    assert ran == [(entry.id, "r", 0.1) for entry in records(("scnet",))]
    assert rederive.rerun(str(report), "scnet", 3, **options) == 0
    with pytest.raises(UserError, match=r"seed=9: scnet has no such run in the report; its seeds: 0, 1, 2, 3, 4, 5"):
        rederive.rerun(str(report), "scnet", 9, **options)


def test_the_inputs_come_back(report):
    assert [entry.id for entry in record_sources.lines(report / "runs.jsonl").records] == sorted(
        (entry.id for entry in records()), key={e.id: (e.started, e.id) for e in records()}.get)  # fmt: skip


@pytest.mark.full
def test_a_report_needs_no_torch():
    code = "import sys, paperzoo.reports.write; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"  # a gigabyte, and as long as the report of a thousand runs
