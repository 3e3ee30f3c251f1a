"""The same records from run folders, W&B's offline files and W&B's server; what cannot be read is one line each."""

import copy
import json
import math
from functools import lru_cache
from pathlib import Path

import pytest
import wandb
import yaml
from synthetic import record, records, sweep
from wandb_server import Server

from paperzoo.config import compose, dump
from paperzoo.errors import UserError
from paperzoo.reports import record_sources, wandb_files
from paperzoo.reports.analysis import analyse
from paperzoo.runs import record as run_records
from paperzoo.runs.publishing import published
from paperzoo.runs.record import Record
from paperzoo.sweeps.command import hydra_words
from paperzoo.sweeps.storage import Plan
from paperzoo.tracking import Wandb


def put(runs: Path, entry: Record) -> Path:
    """A run folder with a record."""
    folder = runs / entry.config["model"]["name"] / entry.identity / str(entry.attempt)
    folder.mkdir(parents=True)
    run_records.write(folder, entry)
    return folder


def same(one: list[Record], other: list[Record]) -> bool:
    """Equal to the last byte; NaN is no different from NaN."""
    return list(record_sources.written(one)) == list(record_sources.written(other))


@lru_cache
def configuration(model: str) -> dict:
    """What a command composes."""
    return dump(compose("train", hydra_words(sweep(), {"model": model, "seed": 0, "trainer.max_epochs": 2})))


def composed(model: str, seed: int, **changes) -> Record:
    """A record whose configuration is the one that its command composes."""
    return record(model, seed, config={**copy.deepcopy(configuration(model)), "seed": seed}, **changes)


@pytest.fixture(scope="module")
def whole() -> list[Record]:
    """Two variants, the second with two seeds, one of them with metrics that are no numbers."""
    entries = [composed("resnet", 0), composed("scnet", 0), composed("scnet", 1)]
    entries[2].results["best"].metrics["test/loss"] = math.inf
    entries[2].epochs[0]["val/top1"] = math.nan
    return entries


@pytest.fixture(scope="module")
def logged(whole, tmp_path_factory) -> Path:
    """The runs as W&B keeps them without a network."""
    root = tmp_path_factory.mktemp("wandb")
    for entry in whole:
        folder = root / entry.id
        folder.mkdir()
        made = Wandb(
            folder=folder, run_id=entry.id, config=entry.config, tags=[], mode="offline", project="p", tell=print
        )
        for row in entry.epochs:
            made.log(row, int(row["step"]))
        made.finish(entry)
    wandb.teardown()  # its process writes the last of a file after a run has finished
    return root


@pytest.fixture
def server(monkeypatch):
    """W&B's stand-in, which this process takes for W&B."""
    made = Server()
    for name, value in {"BASE_URL": made.url, "API_KEY": "0" * 40, "ERROR_REPORTING": "false"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()  # its process has the old settings
    yield made
    wandb.teardown()
    made.stop()


def test_the_sources_agree(whole, logged, server, tmp_path):
    for entry in whole:
        put(tmp_path, entry)
    server.sweeps["s"] = {"config": yaml.safe_dump(sweep().model_dump(exclude_unset=True)), "state": "FINISHED"}
    for run in wandb_files.read(logged.rglob("*.wandb"))[0]:
        held = {key: {"value": value} for key, value in run.config.items() if not key.startswith("_")}
        server.run(run.id).update(config=json.dumps(held), sweep="s", state="finished")
    server.run("other").update(config="{}", sweep="t", state="finished")
    local, offline, online = (
        record_sources.find(
            source, sweep(), "x", runs_dir=str(tmp_path), storage=None, wandb_sweep="someone/paperzoo/s"
        )
        for source in ("local", str(logged), "wandb")
    )
    assert not server.unknown
    assert len(local.records) == 3
    assert not local.problems + offline.problems + online.problems
    assert same(local.records, offline.records)
    assert same(local.records, online.records)
    third = local.records[2]
    assert third.results["best"].metrics["test/loss"] == math.inf
    assert math.isnan(third.epochs[0]["val/top1"])
    reports = [analyse(found.records, sweep(), problems=found.problems) for found in (local, offline, online)]
    assert repr(reports[0]) == repr(reports[1]) == repr(reports[2])
    assert reports[0].comparisons[0].n == 1


def test_a_run_of_anothers_on_the_server(server):
    server.sweeps["s"] = {"config": yaml.safe_dump(sweep().model_dump(exclude_unset=True)), "state": "FINISHED"}
    config = {"model": {"value": "scnet"}, "seed": {"value": 3}, "trainer.max_epochs": {"value": 2}}
    rows = [{"_step": step, "trainer/global_step": 10 * step, "val/top1": 0.1 * step} for step in range(3)]
    summary = '{"test/top1": 0.7, "best/test/top1": 0.8, "test/loss": NaN, "_runtime": 5}'
    server.run("abc").update(config=json.dumps(config), sweep="s", state="failed", history=rows, summary=summary)
    (entry,) = record_sources.online("someone/paperzoo/s").records
    assert (entry.status, entry.seed, entry.wall_seconds) == ("failed", 3, 5)
    assert [row["step"] for row in entry.epochs] == [0, 10, 20]
    assert entry.metrics["test/top1"] == 0.7
    assert entry.metrics["best/test/top1"] == 0.8
    assert math.isnan(entry.metrics["test/loss"])
    assert analyse([entry], sweep()).variants[1].counts == {"failed": 1}


def test_a_sweep_that_is_not_there_is_one_line(server):
    with pytest.raises(UserError, match=r"^sweep=someone/paperzoo/nowhere: W&B does not give it \(.*\); `wandb login`"):
        record_sources.online("someone/paperzoo/nowhere")


def test_no_file_of_wandb_says_who_ran_it_where(logged, whole):
    for run in wandb_files.read(logged.rglob("*.wandb"))[0]:
        held = run.config["record"]
        assert "someone" not in held
        assert "4321" not in held
        assert published(run_records.parse(held, "")).model_dump_json() == held


def test_local_runs_of_other_settings_are_not_the_sweeps(whole, tmp_path):
    for entry in whole[:2]:
        put(tmp_path, entry)
    other = composed("resnet", 2, code="a")
    other.config["optimizer"]["momentum"] = 0.5
    put(tmp_path, other)
    put(tmp_path, composed("resnet", 7, code="b"))
    later = composed("scnet", 0, code="c")
    del later.config["optimizer"]["nesterov"]  # an option that there was not yet
    put(tmp_path, later)
    found = record_sources.local(sweep(), "x", tmp_path)
    assert {entry.id for entry in found.records} == {whole[0].id, whole[1].id, later.id}


def test_the_plan_knows_its_runs_and_what_had_no_record(tmp_path):
    given = records()
    for entry in given:
        put(tmp_path, entry)
    short = sweep(parameters={"model": {"values": ["resnet", "scnet"]}, "seed": {"value": 1}})
    plan = Plan(short, "x", f"sqlite:///{tmp_path / 'sweeps' / 'x.db'}")
    plan.settle()
    first, second = plan.claim(), plan.claim()
    plan.complete(first, given[1].id, 0.9)
    assert second.cell["model"] == "scnet"
    plan.fail(second, "out of memory")
    found = record_sources.local(short, "x", tmp_path)
    assert [entry.id for entry in found.records] == [given[1].id]
    assert found.problems == ["model=scnet seed=1: failed before it had a record: out of memory"]


@pytest.mark.parametrize(("damage", "line"), [
    (lambda text: text[:200], "run.json: damaged, it cannot be read as JSON"),
    (lambda text: text.replace('"schema_version": 3', '"schema_version": 9'), "run.json: schema version 9, this"),
    (lambda text: text.replace('"seed": 0,\n "ranks"', '"seed": "x",\n "ranks"'), "run.json: damaged, seed: "),
])  # fmt: skip
def test_a_record_that_cannot_be_read_is_one_line_and_the_rest_stands(damage, line, whole, tmp_path):
    for entry in whole:
        put(tmp_path, entry)
    bad = put(tmp_path, composed("scnet", 0, code="bad")) / "run.json"
    bad.write_text(damage(bad.read_text()))
    found = record_sources.local(sweep(), "x", tmp_path)
    (problem,) = found.problems
    assert line in problem
    assert problem.startswith(str(bad.relative_to(tmp_path)))
    assert same(found.records, [published(entry) for entry in whole])


def test_a_reports_own_records_come_back(whole, tmp_path):
    path = tmp_path / "runs.jsonl"
    good = list(record_sources.written([published(entry) for entry in whole]))
    newer = good[0].replace('"schema_version":3', '"schema_version":9')
    path.write_text("".join([*good[::-1], newer, good[1][:100]]))
    found = record_sources.lines(path)
    assert list(record_sources.written(found.records)) == good
    assert [line.split(":")[0] for line in found.problems] == ["runs.jsonl, line 4", "runs.jsonl, line 5"]


def test_publishing_keeps_what_counts_and_is_done_once(whole):
    entry = whole[0]
    got = published(entry)
    assert published(got) == got
    assert (got.results, got.epochs, got.cost, got.wall_seconds) == (
        entry.results, entry.epochs, entry.cost, entry.wall_seconds)  # fmt: skip
    assert got.command == ["python", "src/train.py", "model=resnet", "seed=0", "trainer.max_epochs=2"]
    assert "someone" not in got.model_dump_json()
    assert "someone" in entry.model_dump_json()
    assert got.provenance.versions == {"python": "3.11.2", "torch": "2.14.1", "numpy": "2.4.6"}


def test_a_run_that_died_is_interrupted_ever_after():
    running = record(status="running")
    got = published(running)
    assert got.status == "interrupted"
    assert published(got).status == "interrupted"


def test_a_torn_file_gives_what_is_whole(logged, tmp_path):
    (path,) = list(logged.rglob("*.wandb"))[:1]
    content = path.read_bytes()
    every = list(wandb_files.messages(path))
    torn = tmp_path / "run-x.wandb"
    lengths = []
    for end in range(7, len(content), 997):
        torn.write_bytes(content[:end])
        got = list(wandb_files.messages(torn))
        assert got == every[: len(got)]
        lengths.append(len(got))
    assert lengths == sorted(lengths)
    assert len(set(lengths)) > 3
    torn.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])  # a bit that fell over
    assert len(list(wandb_files.messages(torn))) < len(every)
    torn.write_bytes(b"text")
    (tmp_path / "run-y.wandb").write_bytes(content[:7])
    found = record_sources.offline(tmp_path)
    assert found.problems == [
        "run-x.wandb: no W&B file: it begins with b'text', not b':W&B'",
        "run-y.wandb: holds no run; it was torn before its first message",
    ]


def foreign(folder: Path, run_id: str, config: dict, rows: list[dict], code: int = 0) -> None:
    """A run that knows nothing of Paperzoo, in as many segments as it is logged."""
    settings = wandb.Settings(console="off", silent=True)
    run = wandb.init(project="p", id=run_id, dir=folder, mode="offline", config=config, settings=settings)
    for row in rows:
        run.log(row)
    run.finish(exit_code=code)


def test_runs_of_others_and_resumed_ones_are_read_as_far_as_they_go(tmp_path):
    config = {"model": "scnet", "seed": 3, "trainer.max_epochs": 2}
    for part, steps in enumerate(([1, 2, 3], [3, 4])):  # killed in step 3 and resumed from 2
        folder = tmp_path / str(part)
        folder.mkdir()
        rows = [{"trainer/global_step": step, "val/top1": 0.1 * step, "test/top1": 0.2 * step + part} for step in steps]
        foreign(folder, "abc", config, rows)
    (tmp_path / "2").mkdir()
    foreign(tmp_path / "2", "nameless", {"model": "scnet"}, [{"test/top1": 1.0}])
    wandb.teardown()
    found = record_sources.offline(tmp_path)
    (entry,) = found.records
    assert found.problems == ["W&B run nameless: its configuration names no seed, so that it is left out"]
    assert [row["step"] for row in entry.epochs] == [1, 2, 3, 4]
    assert [row["test/top1"] for row in entry.epochs] == pytest.approx([0.2, 0.4, 1.6, 1.8])
    assert entry.metrics["test/top1"] == pytest.approx(1.8)
    report = analyse(found.records, sweep())
    assert report.variants[1].scores == pytest.approx((180.0,))
    assert report.variants[1].cost.keys() == set() or report.variants[1].cost.keys() == {"seconds"}


@pytest.mark.parametrize(("source", "given", "line"), [
    ("nowhere", None, "source=nowhere: must be local, wandb, or a folder that holds .wandb files"),
    ("wandb", None, "sweep=: must be <entity>/<project>/<id>, as `wandb sweep` has printed it"),
    ("wandb", "x", "sweep=x: must be <entity>/<project>/<id>"),
])  # fmt: skip
def test_a_source_that_is_none_is_one_line(source, given, line):
    with pytest.raises(UserError) as error:
        record_sources.find(source, sweep(), "x", runs_dir="runs", storage=None, wandb_sweep=given)
    assert line in str(error.value)


@pytest.mark.parametrize(
    "line", [b'{"schema_version": 3, "id": "\\ud800"}', b"[" * 100_000, b"\xff\xfe", b"null", b"[2]", b""]
)
def test_a_line_that_is_no_record_is_one_problem_and_the_rest_stands(line, tmp_path):
    path = tmp_path / "runs.jsonl"
    good = published(record()).model_dump_json().encode()
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\r\n" + line + b"\n")
    (tmp_path / "problems.txt").write_bytes(b"\xff old\n")
    found = record_sources.of_report(tmp_path)
    assert [entry.id for entry in found.records] == [record().id]
    assert found.problems[0].endswith(" old")
    assert len(found.problems) == 2
    assert found.problems[1].startswith("runs.jsonl, line 2: ")


def test_two_records_that_share_an_id_are_left_out_whatever_their_order(tmp_path):
    path, other = tmp_path / "runs.jsonl", record("scnet", 0, 0.99)
    for given in ([*records(), records()[0], other], [other, *records()]):
        path.write_text("".join(published(entry).model_dump_json() + "\n" for entry in given))
        found = record_sources.lines(path)
        assert len(found.records) == len(records()) - 1
        assert found.problems == [f"{other.id}: two records of this run differ, so that it is left out"]


def test_records_share_what_they_have_in_common(tmp_path):
    path = tmp_path / "runs.jsonl"
    path.write_text("".join(record_sources.written(map(published, records()))))
    one, other = record_sources.lines(path).records[:2]
    assert one.provenance is other.provenance
    assert json.loads(one.model_dump_json())["provenance"] == json.loads(other.model_dump_json())["provenance"]
