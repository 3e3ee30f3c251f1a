"""A trained network from a run, from one of its checkpoints, or from a file of ``export.py format=safetensors``."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from paperzoo.config import build, load_config, older
from paperzoo.config.schema import WEIGHTS
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.inference import safetensors
from paperzoo.inference.transforms import transform_of
from paperzoo.networks import official
from paperzoo.networks.ensemble import member_state
from paperzoo.procedures.fit import Fit
from paperzoo.reproduction import ONE_DEVICE
from paperzoo.runs import checkpoints, folders, record
from paperzoo.runs.record import Record
from paperzoo.runs.weights import of_run
from paperzoo.tasks import making
from paperzoo.tasks.task import Task

GROUPS = ("model", *making.GROUPS)  # what a module is made of, besides the data's info
ONE_FIT = f"{Fit.__module__}.{Fit.__qualname__}"


class Trained(NamedTuple):
    """A trained module and what belongs to it."""

    module: Task  # in evaluation mode
    task: str  # classification, segmentation, detection, retrieval, language
    info: dict[str, Any]  # what the data said of itself: classes, preprocessing
    transform: Any  # image -> tensor; None where the task takes no images
    groups: dict[str, Any]  # the configuration that the module is made of
    name: str  # of the run, or of the file


def load(
    source: str | Path,
    weights: str = "last",
    *,
    member: int | None = None,
    runs_dir: str | Path | None = None,
    device: str | torch.device = "cpu",
) -> Any:
    """The network of a run, ready to be applied.

    ``network(network.transform("photo.jpg")[None])`` are the logits (1, K) of a classifier.

    Args:
        source: a run's folder or id, one of its checkpoints, or a file of ``export.py format=safetensors``.
        weights: ``last``, after the last epoch; ``best``, on validation; or ``step_<n>``, where the run kept them.
        member: of an ensemble, from 0: its network alone.
        runs_dir: where ids are looked for; None is the variable ``RUNS_DIR``, else ``runs``.
        device: where the network is put.

    Returns:
        The network (nn.Module) in evaluation mode with ``transform``, an image (path, bytes, PIL image or uint8 array)
        -> (C, H, W) float, as the run's evaluation prepares it, ``class_names``, ``task`` and ``info``. A detector's
        ``transform.batch`` pads several of its images to one batch for ``network.detect``.

    Raises:
        UserError: there is no such run or file, it is damaged, or it has no such weights or member.
    """
    trained = read(source, weights, runs_dir=runs_dir)
    return ready(trained if member is None else member_of(trained, member), device)


def ready(trained: Trained, device: str | torch.device = "cpu") -> Any:
    """A trained module's network with what ``load`` promises."""
    network: Any = trained.module.network.to(device)
    network.transform = trained.transform
    network.class_names = list(trained.info.get("class_names", ()))
    network.task, network.info = trained.task, trained.info
    return network


def read(source: str | Path, weights: str = "last", *, runs_dir: str | Path | None = None) -> Trained:
    """See ``load``: the whole module."""
    path = Path(source)
    if path.is_file() and path.suffix == safetensors.SUFFIX:
        return _of_export(path)
    if path.is_file():
        folder = path.resolve().parents[1]
        entry = record.read(folder) if (folder / record.FILE).is_file() else None
        return _of_checkpoint(path, entry, str(path))
    places = Path(runs_dir if runs_dir is not None else os.environ.get("RUNS_DIR", "runs"))
    folder = folders.find(places, str(source))
    entry = record.read(folder)
    if not WEIGHTS.fullmatch(weights):
        raise UserError(f"weights={weights}: must be last, best, or step_<n> where the run kept them")
    return _of_checkpoint(of_run(folder, entry, weights), entry, entry.id)


def member_of(trained: Trained, number: int) -> Trained:
    """A member of an ensemble as a trained module of its own, as if it had been trained alone.

    Args:
        trained: the ensemble.
        number: the member's, from 0.

    Raises:
        UserError: it is no ensemble, or has no such member.
    """
    module: Any = trained.module
    if not hasattr(module, "member_groups"):
        raise UserError(f"member={number}: {trained.name} is no ensemble whose members are models")
    count = len(module.network.members)
    if not 0 <= number < count:
        raise UserError(f"member={number}: {trained.name} has members 0 to {count - 1}")
    config = {**module.member_groups(number), "data": trained.groups["data"]}
    state = member_state(module.network.state_dict(), number)
    return _filled(_made(config, trained.info), state, config, trained.info, f"{trained.name}-member-{number}")


def _of_checkpoint(path: Path, entry: Record | None, name: str) -> Trained:
    """From a checkpoint; one from before it held its run's configuration needs the record."""
    whole = checkpoints.digest_path(path).is_file()
    content = checkpoints.load(path) if whole else checkpoints.read_plain(path)
    own = making.of_run(content) if isinstance(content, Mapping) else None
    if own is None:
        raise UserError(f"{path}: is no checkpoint of a run; published weights go with model= and model.network=")
    given = entry.config if entry else content.get(checkpoints.CONFIG)
    if given is None:
        raise UserError(f"{path}: is from before checkpoints said what they are of; name its run or its run's folder")
    config = older.upgraded(given)
    info = content.get(LIGHTNING, {}).get("info") or (entry.info if entry else None) or _info_of_data(config)
    module = _made(config, info)
    _prepare_stages(config, module, info, content.get("outcomes", []))
    return _filled(module, own, config, info, name)


LIGHTNING = "hyper_parameters"


def _of_export(path: Path) -> Trained:
    about, state = safetensors.read(path)
    module = _made(about["config"], about["info"])
    return _filled(module, state, about["config"], about["info"], str(path))


def _made(config: Mapping[str, Any], info: dict[str, Any]) -> Task:
    """The module, its weights still drawn; the caller's random numbers stay as they are."""
    groups = {name: config[name] for name in GROUPS}
    with torch.random.fork_rng(devices=[]):
        module: Task = build(groups["model"]["_target_"], **groups, info=info)
    return module


def _filled(module: Task, state: dict[str, Any], config: Mapping[str, Any], info: dict[str, Any], name: str) -> Trained:
    """With the weights, in their own precision."""
    if any(value.dtype == torch.float64 for value in state.values()):
        module.network.double()
    if hasattr(module.network, "make_room"):  # for what is as large as the data that it was fitted on
        module.network.make_room(state)
    official.load_exactly(module.network, state)
    module.eval()
    module.network.requires_grad_(False)
    task = config["data"].get("task", "classification")
    transform = transform_of(task, info, config["data"], _dtype(module.network))
    return Trained(module, task, info, transform, {n: config[n] for n in (*GROUPS, "data")}, name)


def _dtype(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters()), torch.float32)


def _info_of_data(config: Mapping[str, Any]) -> dict[str, Any]:
    """Of a record from before it held this: what the data itself says."""
    return make_data(load_config(_anywhere(config))).info


def _prepare_stages(config: Mapping[str, Any], module: Task, info: dict[str, Any], outcomes: list[Any]) -> None:
    """A procedure of several stages may have changed the network since it was built (pruned layers, a new head)."""
    target = config.get("procedure", {}).get("_target_") or ONE_FIT
    if target == ONE_FIT:
        return
    from paperzoo import stages

    whole = load_config(_anywhere(config))
    stages.prepare(whole, module, _Described(info, whole), outcomes)  # type: ignore[arg-type]


def _anywhere(config: Mapping[str, Any]) -> dict[str, Any]:
    """A record's configuration on this machine's processor, without its logger and its published weights."""
    here = {"name": "cpu", "accelerator": "cpu", **ONE_DEVICE}
    precision = "64-true" if config["trainer"]["precision"] == "64-true" else "32-true"
    data = config["data"]
    return {
        "paths": {"data_dir": os.environ.get("DATA_DIR", "data"), "runs_dir": "runs"},
        **config,
        "data": {"eval_batch_size": data["batch_size"], **data},  # a checkpoint alone says nothing of places
        "trainer": {**config["trainer"], **here, "precision": precision, "threads": None},
        "model": {**config["model"], "checkpoint": None},
        "logger": {"name": "none"},
        "checkpoint": {},
        "resume": None,
    }


class _Described:
    """Data of which a stage mostly needs no more than its ``info``; what else is asked for sets it up."""

    def __init__(self, info: dict[str, Any], config: Any) -> None:
        self.info, self._config = info, config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if "data" not in self.__dict__:
            self.__dict__["data"] = make_data(self._config)
        return getattr(self.__dict__["data"], name)
