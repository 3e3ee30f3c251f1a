"""Evaluating a finished run again, from its record alone."""

from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as L
import torch
from torch import Tensor

from paperzoo import results, stages
from paperzoo.config.schema import Evaluation, Paths
from paperzoo.data.interface import RunData, make_data
from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.machine import make_trainer
from paperzoo.norms.batch_average import batch_average
from paperzoo.predictions import files
from paperzoo.predictions.keeping import Kept, KeptObjects
from paperzoo.reproduction import ONE_DEVICE, as_recorded
from paperzoo.runs import checkpoints, folders, record
from paperzoo.runs.record import Record
from paperzoo.runs.weights import of_run
from paperzoo.tasks.making import make_module


def evaluate(choice: Evaluation) -> dict[str, float]:
    """The metrics of a run's weights on a split, shown beside those on record; or those of a file of predictions.

    Raises:
        UserError: there is no such run, it has no such weights, or the data is not what it was.
    """
    if choice.maps and not choice.predictions:
        raise UserError("maps=true: goes with predictions=true")
    if choice.run.endswith(files.SUFFIX):
        return files.evaluate(Path(choice.run))
    folder = folders.find(Path(choice.paths.runs_dir), choice.run)
    entry = record.read(folder)
    places = {name: place for name, place in choice.data.model_dump().items() if place is not None}
    trainer, data, module, weights = restored(
        entry, folder, choice.paths, weights=choice.weights, accelerator=choice.accelerator, places=places
    )
    if choice.norm_statistics == "batch_average":
        device = trainer.strategy.root_device
        batch_average(module.to(device), islice(_training_images(data, device), choice.norm_batches))
    kept = _keeping(choice, entry, folder, module) if choice.predictions else None
    if kept:
        trainer.callbacks.append(kept)  # type: ignore[attr-defined]
    with kept or nullcontext():
        metrics = results.measure(trainer, module, data, choice.split)
    epoch = _epoch(entry, weights)
    _show(entry, choice.weights, epoch, metrics, data.description)
    if kept:
        about: dict[str, Any] = {
            "run": entry.id,
            "weights": choice.weights,
            "split": choice.split,
            "epoch": epoch,
            "metrics": metrics,
        }
        about |= {"class_names": [str(name) for name in data.info["class_names"]]}
        about |= {"measures": [metric._asdict() for metric in entry.task_metrics]}
        title = f"run {entry.id}: {choice.split} split, {choice.weights} weights"
        kept.store(_stem(choice, folder).with_suffix(files.SUFFIX), about, title)
    return metrics


def _keeping(choice: Evaluation, entry: Record, folder: Path, module: Any) -> Kept:
    """What keeps the predictions, and where asked for the maps."""
    stem = _stem(choice, folder)
    maps = stem.with_name(f"{stem.name}_maps") if choice.maps else None
    task = entry.config["data"].get("task", "classification")
    return (KeptObjects if task == "detection" else Kept)(module, task, maps)


def _stem(choice: Evaluation, folder: Path) -> Path:
    """Where predictions go, in the run's folder, without an ending."""
    averaged = "_batch_average" if choice.norm_statistics == "batch_average" else ""
    return folder / "predictions" / f"{choice.split}_{choice.weights}{averaged}"


class Restored(NamedTuple):
    """A run as it was, on one device of this machine."""

    trainer: L.Trainer
    data: RunData
    module: Any
    weights: dict[str, Any]  # the checkpoint


def restored(
    entry: Record,
    folder: Path,
    paths: Paths,
    *,
    weights: str = "last",
    accelerator: str = "cpu",
    places: Mapping[str, Any] | None = None,
) -> Restored:
    """A recorded run's module with its weights, and its data.

    Args:
        entry: its record.
        folder: of the run.
        paths: of this machine.
        weights: last, best, or step_<n>.
        accelerator: as Lightning names it.
        places: of the data, where it has moved.

    Raises:
        UserError: it has no such weights, or the data is not what it was.
    """
    config = as_recorded(
        entry,
        paths,
        trainer=one_device(entry, accelerator),
        data=dict(places or {}),
        model={"checkpoint": None},  # the run's own weights are loaded, the published ones need not be there
    )
    trainer = make_trainer(config)
    data = make_data(config)
    demand_same(entry, data)
    module = make_module(config, data)
    saved = checkpoints.load(of_run(folder, entry, weights))
    stages.prepare(config, module, data, saved.get("outcomes", []))
    module.load_state_dict(saved["state_dict"])
    return Restored(trainer, data, module, saved)


def _training_images(data: RunData, device: torch.device) -> Iterator[Tensor]:
    """The images of an epoch's training batches, as training saw them."""
    for batch in data.train_dataloader():
        yield data.on_after_batch_transfer(data.transfer_batch_to_device(batch, device, 0), 0).inputs


def demand_same(entry: Record, data: RunData) -> None:
    """Raise UserError unless the data is what a run saw."""
    if data.fingerprint != entry.data.fingerprint:
        raise UserError(
            f"run={entry.id}: the data has changed (fingerprint {data.fingerprint[:10]}, on record "
            f"{entry.data.fingerprint[:10]}); set paths.data_dir to the data that it was trained on"
        )


def one_device(entry: Record, accelerator: str) -> dict[str, Any]:
    """A single device's trainer, without autocast: the weights are float32, or float64 if they were trained so."""
    precision = "64-true" if entry.config["trainer"]["precision"] == "64-true" else "32-true"
    return {"accelerator": accelerator, "precision": precision, **ONE_DEVICE}


def _epoch(entry: Record, weights: dict[str, Any]) -> int | float:
    """The epoch after which weights were saved; a run that is under way may not have it on record yet."""
    stage = len(weights.get("outcomes", [])) + 1
    rows = [row for row in entry.epochs if row.get("stage", 1) == stage]
    before = max((int(row["step"]) for row in entry.epochs if row.get("stage", 1) < stage), default=0)
    # A fit's weights count the steps of their stage, rows and what a loop leaves those of the run.
    step = weights["global_step"] + (before if rows and "lr" in rows[0] else 0)
    known = next((row["epoch"] for row in rows if row["step"] == step), None)
    return known if known is not None else int(weights["epoch"]) + 1


def _show(entry: Record, weights: str, epoch: int | float, metrics: dict[str, float], description: str) -> None:
    display = Display()
    display.line(f"run {entry.id}, {weights} weights, on {description}")
    on_record = entry.results.get(weights)
    rows = {"now": (epoch, metrics)}
    if on_record:
        rows["on record"] = (
            on_record.epoch,
            {name: on_record.metrics[name] for name in metrics if name in on_record.metrics},
        )
    display.results(rows, entry.task_metrics)
    if on_record:
        equal = all(on_record.metrics.get(name) == value for name, value in metrics.items())
        display.line(
            "\nevery metric equals the record, bit for bit" if equal else "\nsome metrics differ from the record"
        )
