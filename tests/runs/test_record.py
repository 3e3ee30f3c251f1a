"""The record and the run folder: identity, reading, damage, folders."""

import json
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from composed import compose

from paperzoo.config.schema import Config
from paperzoo.errors import UserError
from paperzoo.evaluation import evaluate
from paperzoo.runs import checkpoints, compare, extending, folders, record
from paperzoo.runs.identity import identity
from paperzoo.training import train

WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=64", "data.batch_size=16", "logger=none",
         "data.image_size=12", "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=2"]  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, record.Record]:
    """A runs folder with one finished run."""
    runs = tmp_path_factory.mktemp("runs")
    return runs, train(compose("train", [*WORDS, "pictures=true", f"paths.runs_dir={runs}"]))


@lru_cache
def composed(*extra: str) -> Config:
    return compose("train", [*WORDS, *extra])


def key(*extra: str, ranks: int = 1, data: str = "d", code: str = "c") -> str:
    return identity(composed(*extra), ranks=ranks, data_fingerprint=data, code=code)


@pytest.mark.parametrize(
    "extra",
    ["paths.runs_dir=/tmp/elsewhere", "paths.data_dir=/tmp", "logger=wandb", "tags=[a]", "debug=true", "data.workers=2",
     "trainer=auto", "trainer.threads=2", "checkpoint.every_steps=3", "data.eval_batch_size=10", "resume=auto"],
)  # fmt: skip
def test_identity_leaves_out_paths_logging_and_devices(extra):
    words = [extra, "trainer.max_epochs=2"]
    assert key(*words) == key()


@pytest.mark.parametrize(
    "extra",
    ["seed=1", "optimizer.lr=0.05", "trainer.compile=true", "trainer.precision=64-true", "model.width=8",
     "data.batch_size=8", "mix=mixup", "data.augment.flip=0.5", "deterministic=false", "trainer.max_epochs=3"],
)  # fmt: skip
def test_identity_counts_what_determines_the_result(extra):
    assert key(extra) != key()


def test_identity_counts_ranks_data_and_code():
    assert len({key(), key(ranks=2), key(data="e"), key(code="f")}) == 4


def test_identity_counts_what_published_weights_hold_not_where_they_lie(finished, tmp_path):
    runs, entry = finished
    state = checkpoints.load(folders.find(runs, entry.id) / "checkpoints" / checkpoints.LAST)["state_dict"]
    state = {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
    for name, factor in (("a", 1.0), ("b", 1.0), ("c", 1.5)):
        (tmp_path / name).mkdir()
        torch.save({**state, "fc.bias": state["fc.bias"] * factor}, tmp_path / name / "w.pt")
    a, b, c = (key(f"model.checkpoint={tmp_path / name / 'w.pt'}") for name in "abc")
    assert a == b
    assert len({key(), a, c}) == 3
    words = [*WORDS, "trainer.max_epochs=1", f"paths.runs_dir={tmp_path / 'runs'}"]
    tuned = train(compose("train", [*words, f"model.checkpoint={tmp_path / 'a' / 'w.pt'}"]))
    shutil.rmtree(tmp_path / "a")
    got = evaluate(compose("evaluate", [f"run={tuned.id}", f"paths.runs_dir={tmp_path / 'runs'}"]))  # the id is enough
    assert got == {name: value for name, value in tuned.results["last"].metrics.items() if name.startswith("test")}


def test_record_holds_what_was_measured(finished):
    runs, entry = finished
    folder = folders.find(runs, entry.id)
    again = record.read(folder)
    assert again == entry
    assert again.status == "finished"
    assert len(again.epochs) == 2
    assert again.results["last"].metrics["val/top1"] == again.epochs[-1]["val/top1"]
    best = max(again.epochs, key=lambda row: row["val/top1"])
    assert again.results["best"].metrics["val/top1"] == best["val/top1"]
    assert (folder / "metrics.csv").read_text().count("\n") == 3
    for picture in ("learning_curves.png", "confusion_matrix.png"):
        assert (folder / "figures" / picture).read_bytes().startswith(b"\x89PNG")
    assert (folder / "checkpoints" / checkpoints.STATE).exists()  # for extending it
    assert not (folder / "checkpoints" / checkpoints.PREVIOUS).exists()


def test_the_same_run_again_is_a_new_attempt_with_equal_results(finished, capsys):
    runs, entry = finished
    again = train(compose("train", [*WORDS, f"paths.runs_dir={runs}", "tags=[again]"]))
    assert (again.identity, again.attempt) == (entry.identity, 2)
    assert "every metric is equal, bit for bit" in capsys.readouterr().out
    other = train(compose("train", [*WORDS, f"paths.runs_dir={runs}", "seed=1"]))
    assert other.identity != entry.identity
    assert compare.first_difference(entry, other) is not None
    shutil.rmtree(runs / "resnet" / entry.identity / "2")


@pytest.mark.parametrize(("weights", "split"), [("last", "test"), ("best", "test"), ("last", "val")])
def test_evaluate_needs_the_id_alone_and_gives_the_record(finished, weights, split):
    runs, entry = finished
    words = [f"run={entry.id[:6]}", f"paths.runs_dir={runs}", f"weights={weights}", f"split={split}"]
    got = evaluate(compose("evaluate", words))
    assert got == {name: value for name, value in entry.results[weights].metrics.items() if name.startswith(split)}


# damage: each file of a run folder missing, emptied, cut short, zeroed in the middle

FILES = ["run.json", "checkpoints/last.ckpt", "checkpoints/last.ckpt.sha256", "checkpoints/best.ckpt"]
CUTS = [0.1, 0.5, 0.9]


def _damages():
    for file in FILES:
        yield pytest.param(file, lambda content: None, id=f"{file} missing")
        yield pytest.param(file, lambda content: b"", id=f"{file} empty")
        for share in CUTS:
            yield pytest.param(
                file, lambda content, s=share: content[: int(len(content) * s)], id=f"{file} cut {share}"
            )
            yield pytest.param(
                file,
                lambda content, s=share: (
                    content[: int(len(content) * s)] + bytes(8) + content[int(len(content) * s) + 8 :]
                ),
                id=f"{file} zeroed {share}",
            )
        yield pytest.param(file, lambda content: bytes(len(content)), id=f"{file} all zero")


@pytest.mark.parametrize(("file", "damage"), _damages())
def test_damage_is_one_line_never_a_wrong_result(finished, file, damage, tmp_path):
    runs, entry = finished
    copy = shutil.copytree(folders.find(runs, entry.id), tmp_path / "resnet" / entry.identity / "1")
    content = damage((copy / file).read_bytes())
    (copy / file).unlink() if content is None else (copy / file).write_bytes(content)
    weights = "best" if "best" in file else "last"
    words = [f"run={entry.id}", f"paths.runs_dir={tmp_path}", f"weights={weights}"]
    with pytest.raises(UserError) as caught:
        evaluate(compose("evaluate", words))
    line = str(caught.value)
    assert "\n" not in line
    assert str(copy / file.removesuffix(".sha256")) in line


@pytest.mark.parametrize("torn", ["cut", "zeroed", "no digest"])
def test_a_torn_state_falls_back_to_the_one_before(torn, tmp_path):
    folder = tmp_path / "checkpoints"
    for step in (1, 2):
        checkpoints.save({"global_step": step, "x": torch.arange(1000)}, folder / checkpoints.STATE)
    path = folder / checkpoints.STATE
    assert checkpoints.newest_state(tmp_path) == path
    content = path.read_bytes()
    if torn == "cut":
        path.write_bytes(content[:-100])
    elif torn == "zeroed":
        path.write_bytes(content[:2000] + bytes(16) + content[2016:])
    else:
        checkpoints.digest_path(path).unlink()
    found = checkpoints.newest_state(tmp_path)
    assert found == folder / checkpoints.PREVIOUS
    assert checkpoints.load(found)["global_step"] == 1


def test_another_schema_version_is_named(finished, tmp_path):
    runs, entry = finished
    content = json.loads((folders.find(runs, entry.id) / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(content | {"schema_version": 99}))
    with pytest.raises(UserError, match="schema version 99"):
        record.read(tmp_path)
    del content["segments"][0]["process"]
    (tmp_path / "run.json").write_text(json.dumps(content | {"schema_version": 1}))
    old = record.read(tmp_path)
    assert (old.schema_version, old.results) == (record.SCHEMA, entry.results)


class Hostile:
    """Runs a command when unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (Path.touch, (self.mark,))


def test_a_hostile_checkpoint_is_refused_and_not_run(tmp_path):
    path, mark = tmp_path / "evil.ckpt", tmp_path / "mark"
    torch.save({"state_dict": {}, "evil": Hostile(mark)}, path)
    checkpoints.digest_path(path).write_text(checkpoints.file_digest(path))
    with pytest.raises(UserError, match=r"refused, it holds more than tensors and plain data \(getattr\)$"):
        checkpoints.load(path)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", r"damaged, it cannot be read \(EOFError\)$"),
        (b"not weights", r"is no checkpoint of PyTorch's$"),
        (b"\x89PNG\r\n\x1a\n", r"is no checkpoint of PyTorch's$"),
        (b"PK\x03\x04", "damaged, it cannot be read"),
        (pickle.dumps({"a": Path("b")}), r"is no checkpoint of PyTorch's$"),
    ],
)
def test_a_file_that_holds_no_weights_is_one_line_that_advises_nothing_unsafe(content, line, tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(UserError, match=line) as caught:
        checkpoints.read_plain(path)
    assert "weights_only" not in str(caught.value)


def test_starts_at_the_same_moment_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: folders.create(tmp_path, "m", "abc")[1], range(40)))
    assert sorted(got) == list(range(1, 41))


@pytest.mark.parametrize("run", ["../x", "zzz", "abc-0", "", "a/b"])
def test_names_that_are_no_id_are_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"neither a run folder nor a run id|there is no such run"):
        folders.find(tmp_path, run)


def test_a_run_that_is_not_there_names_what_was_written_and_the_command_that_lists_these_runs(tmp_path, monkeypatch):
    with pytest.raises(UserError, match=rf"^resume=12: .*; `python src/runs.py runs_dir={tmp_path}` lists them$"):
        extending.resolved(compose("train", ["model=resnet", "resume=12", f"paths.runs_dir={tmp_path}"]))
    monkeypatch.setenv("RUNS_DIR", str(tmp_path))
    with pytest.raises(UserError, match=r"^run=x y: .*; `python src/runs.py` lists them$"):
        folders.find(tmp_path, "x y")


def test_ambiguous_prefixes_and_missing_attempts_are_named(tmp_path):
    for name in ("abc1", "abc2"):
        folders.create(tmp_path, "m", name)
    with pytest.raises(UserError, match="2 runs begin so"):
        folders.find(tmp_path, "abc")
    with pytest.raises(UserError, match=r"no such attempt; there are 1"):
        folders.find(tmp_path, "abc1-7")
