"""TensorBoard and MLflow get what W&B and the run folder's tables have; without their packages it is one line."""

import csv
from collections.abc import Iterable
from types import SimpleNamespace

import loggers as told_to
import numpy as np
import pytest

from paperzoo import loggers, schema
from paperzoo.config import compose
from paperzoo.errors import UserError
from paperzoo.reports import wandb_files
from paperzoo.tracking import STEP, Wandb
from paperzoo.training import train

WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=64", "data.batch_size=16", "seed=3",
         "data.image_size=12", "data.validation=50", "data.test=50", "trainer=cpu", "trainer.max_epochs=2",
         "trainer.log_every_n_steps=3", "logger=none", f"logger._target_={__name__}.Every"]  # fmt: skip


class Every:
    """All loggers at once: one training, each gets its rows."""

    def __init__(self, **about):
        wandb = Wandb(**about, mode="offline", project="paperzoo")
        self.all = [wandb, loggers.TensorBoard(**about), loggers.MLflow(**about, experiment="paperzoo")]

    def log(self, metrics, step):
        for logger in self.all:
            logger.log(metrics, step)

    def finish(self, entry):
        for logger in self.all:
            logger.finish(entry)


def by_step(rows: Iterable[tuple[int, dict]]) -> dict:
    """Values by name and step, each once."""
    found: dict = {}
    for step, row in rows:
        for name, value in row.items():
            found.setdefault((name, step), set()).add(float(value))
    return found


@pytest.mark.full
def test_every_logger_records_the_same_values(tmp_path, monkeypatch):
    told = told_to.stand_in(monkeypatch, tmp_path)
    entry = train(compose("train", [*WORDS, f"paths.runs_dir={tmp_path}"]))
    (folder,) = tmp_path.glob("resnet/*/1")
    steps = [{k: v for k, v in row.items() if v} for row in csv.DictReader((folder / "steps.csv").open())]
    windows = [{f"window/{k}" if k.startswith("train/") else k: v for k, v in row.items()} for row in steps]
    rows = [(int(row["step"]), row) for row in [*entry.epochs, *windows]]
    rows.append((int(entry.epochs[-1]["step"]), entry.metrics))
    expected = by_step(rows)
    assert {name for name, _ in expected} >= {"train/loss", "window/train/loss", "val/top1", "test/top1", "lr"}
    in_float32 = {key: {float(np.float32(value)) for value in held} for key, held in expected.items()}
    for package, exact in (("mlflow", True), ("tensorboard", not told_to.INSTALLED["tensorboard"])):
        got = {key: set(held) for key, held in told_to.values(package, told, tmp_path, folder).items()}
        assert got == (expected if exact else in_float32), package
    assert told_to.mlflow_runs(told, tmp_path)[0][:2] == (entry.id, "FINISHED")
    assert told_to.mlflow_runs(told, tmp_path)[0][2]["trainer/max_epochs"] == "2"

    ((run,), _) = wandb_files.read(folder.glob("wandb/*run-*/*.wandb"))
    of_wandb = by_step((row[STEP], {k: v for k, v in row.items() if k[0] != "_" and k != STEP}) for row in run.history)
    of_rows = by_step(rows[:-1])
    # A step has one value in W&B, the last that was logged; the final metrics are its summary.
    assert of_wandb == {key: held & of_wandb[key] for key, held in of_rows.items()}
    assert all(len(held) == 1 for held in of_wandb.values())
    assert {name: run.summary[name] for name in entry.metrics} == entry.metrics


def test_an_mlflow_run_goes_on_in_the_same(tmp_path, monkeypatch):
    told = told_to.stand_in(monkeypatch, tmp_path)
    folder = tmp_path / "resnet" / "12" / "1"
    said: list[str] = []
    about = {"folder": folder, "run_id": "12-1", "tags": ["a"], "tell": said.append, "experiment": "paperzoo"}
    for number in (1, 2):  # parameters that change are refused by MLflow: the second time they are left alone
        logger = loggers.MLflow(**about, config={"data": {"workers": number}})
        logger.log({"val/top1": number / 8}, number)
        entry = SimpleNamespace(epochs=[{"step": number}], metrics={}, status="failed" if number == 1 else "finished")
        logger.finish(entry)
        status = ["FAILED", "FINISHED"][number - 1]
        assert told_to.mlflow_runs(told, tmp_path) == [("12-1", status, {"data/workers": "1"})]
    assert told_to.values("mlflow", told, tmp_path, folder) == {("val/top1", 1): [0.125], ("val/top1", 2): [0.25]}
    assert said == []


def test_a_logger_that_is_lost_is_said_once():
    said: list[str] = []
    logger = loggers.Logged("MLflow", said.append)

    def refuse(*_):
        raise OSError("no server\nsecond line")

    logger.logger = SimpleNamespace(log_metrics=refuse, finalize=refuse)
    logger.log({"a": 1.0}, 1)
    logger.finish(SimpleNamespace(epochs=[], metrics={}, status="finished"))
    assert said == ["note: MLflow is lost (no server): the run goes on without it, its record is whole"]


@pytest.mark.parametrize(("kind", "name"), [(schema.TensorBoard, "tensorboard"), (schema.MLflow, "mlflow")])
def test_a_package_that_is_missing_is_one_line(kind, name, monkeypatch):
    monkeypatch.setattr(schema, "find_spec", lambda wanted: None)
    with pytest.raises(UserError, match=f'logger={name}: needs {name}, which is not installed; pip install "paperzoo'):
        kind(name=name, target=f"paperzoo.loggers.{kind.__name__}").check(None)
