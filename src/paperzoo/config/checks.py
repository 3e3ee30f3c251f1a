"""Combinations that cannot work, found before anything is loaded."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from paperzoo import cards
from paperzoo.config.messages import nearest, show
from paperzoo.config.schema import Config, Data
from paperzoo.errors import UserError

# Keys that only some targets of a group take. What a target does not take is refused, not ignored; a target of one's
# own is left to itself.
TAKES: dict[str, dict[str | None, set[str]]] = {
    "optimizer": {"torch.optim.SGD": {"momentum", "nesterov"}, "torch.optim.AdamW": {"betas", "eps"}},
    "scheduler": {
        "paperzoo.tasks.schedules.constant": set(),
        "paperzoo.tasks.schedules.cosine": {"final"},
        "paperzoo.tasks.schedules.step": {"milestones", "gamma"},
        "paperzoo.tasks.schedules.poly": {"power"},
    },
    "data": {
        "paperzoo.data.sources.mnist5k": set(),
        "paperzoo.data.sources.image_folder": {"root"},
        "paperzoo.data.maps.digit_maps": set(),
        "paperzoo.data.maps.coco_stuff": set(),
        "paperzoo.data.sources.huggingface": {
            "path", "hub", "image_column", "label_column", "train_split", "test_split", "streaming",
        },
    },
    "norm": {
        None: set(),
        "torch.nn.BatchNorm2d": {"eps", "momentum"},
        "paperzoo.norms.InstanceNorm2d": {"eps"},
        "paperzoo.norms.SyncBatchNorm": {"eps", "momentum"},
        "paperzoo.papers.group_norm.LayerNorm": {"eps"},
        "paperzoo.papers.group_norm.GroupNorm": {"eps", "groups"},
        "paperzoo.papers.switchable_norm.SwitchNorm2d": {
            "eps", "momentum", "using_moving_average", "using_bn", "unbiased",
        },
        "paperzoo.papers.mabn.MABN2d": {"convolution", "eps", "momentum", "B", "real_B", "warmup_iters"},
    },
    "mix": {
        None: set(),
        "torchvision.transforms.v2.MixUp": {"alpha"},
        "torchvision.transforms.v2.CutMix": {"alpha"},
    },
    "logger": {None: set(), "paperzoo.tracking.Wandb": {"mode", "project", "entity"}},
}  # fmt: skip
SPECIAL = {
    "optimizer": ("momentum", "nesterov", "betas", "eps"),
    "scheduler": ("final", "milestones", "gamma", "power"),
    "data": ("root", "path", "hub", "image_column", "label_column", "train_split", "test_split", "streaming"),
    "norm": (
        "convolution",
        "eps",
        "momentum",
        "groups",
        "using_moving_average",
        "using_bn",
        "unbiased",
        "B",
        "real_B",
        "warmup_iters",
    ),
    "mix": ("alpha",),
    "logger": ("mode", "project", "entity"),
}
FAST_BF16 = {"avx512_bf16", "amx_bf16"}


def check(config: Config) -> None:
    """Run all checks.

    Raises:
        UserError: the first that fails, in one line.
    """
    for each in CHECKS:
        each(config)


def _keys(config: Config) -> None:
    """No key is given to a target that would ignore it."""
    for group, keys in SPECIAL.items():
        choice = getattr(config, group)
        takes = TAKES[group].get(choice.target)
        if takes is None:
            continue
        for key in keys:
            value = getattr(choice, key)
            if key not in takes and value != type(choice).model_fields[key].default:
                known = f"of these it takes {', '.join(sorted(takes))}" if takes else "leave it away"
                raise UserError(f"{group}.{key}={show(value)}: {group}={choice.name} has no {key}; {known}")


def _model(config: Config) -> None:
    """The network and the options are those of the paper's card."""
    model = config.model
    if not re.fullmatch(r"\w[\w.-]*", model.name):
        raise UserError(f"model.name={model.name}: must be of letters, digits, _, - and ., since a folder is named so")
    if model.name not in cards.slugs():
        if model.target.startswith("paperzoo.papers."):
            known = ", ".join(cards.slugs())
            raise UserError(
                f"model.name={model.name}: there is no such paper; papers: {known}{nearest(model.name, cards.slugs())}"
            )
        return  # a module of one's own, named by _target_: its options are its own business
    card = cards.load(model.name)
    names = card.known()
    if model.network not in names:
        raise UserError(
            f"model.network={model.network}: there is no such network of {model.name}; networks: {', '.join(names)}"
            + nearest(model.network, names)
        )
    options = {option.name: option for option in card.options}
    for key, value in (model.model_extra or {}).items():
        if key not in options:
            allowed = ["network", *options]
            raise UserError(
                f"model.{key}={show(value)}: {model.name} has no such option; options: {', '.join(allowed)}"
                + nearest(key, allowed)
            )
        demand = options[key].demand(value)
        if demand:
            raise UserError(f"model.{key}={show(value)}: must be {demand} ({options[key].what})")
        if value is not None and options[key].only_for and not options[key].applies_to(model.network):
            raise UserError(
                f"model.{key}={show(value)}: only for {options[key].only_for}, not for {model.network}; leave it null"
            )
    if model.checkpoint and not Path(model.checkpoint).is_file():
        raise UserError(f"model.checkpoint={model.checkpoint}: there is no such file")


def _task(config: Config) -> None:
    """The model does what the data asks for."""
    data, model = config.data, config.model
    maps = data.target.startswith("paperzoo.data.maps.")
    if data.target.startswith("paperzoo.data.") and maps != (data.task == "segmentation"):
        raise UserError(f"data.task={data.task}: data={data.name} has {'maps' if maps else 'no maps'}; leave it away")
    if not maps:
        return
    if model.name in cards.slugs() and "segmentation" not in cards.load(model.name).kinds:
        able = [slug for slug in cards.slugs() if "segmentation" in cards.load(slug).kinds]
        raise UserError(
            f"model={model.name} with data={data.name}: it labels images, this data labels pixels; use "
            f"model={' or '.join(able)}"
        )
    if config.mix.target:
        raise UserError(f"mix={config.mix.name} with data={data.name}: mixes images of one label each; use mix=none")
    if data.augment.resized_crop:
        raise UserError(f"data.augment.resized_crop=true with data={data.name}: maps cannot be; use crop_padding")


def _data(config: Config) -> None:
    data = config.data
    for key, folder in (("root", data.root), ("path", data.path)):
        if folder and (key == "root" or folder.startswith((".", "/", "~"))):  # else it may be a name on the hub
            _folder(f"data.{key}={folder}", Path(folder).expanduser())
    if data.name == "hf" and not data.path:
        raise UserError(
            "data.path must be given with data=hf: a hub name such as ylecun/mnist, or a folder of Parquet files"
        )
    _no_leak(data)
    if data.augment.resized_crop and data.image_size is None:
        raise UserError("data.augment.resized_crop=true: needs data.image_size, the size that it crops to")
    if data.augment.resized_crop and data.augment.crop_padding:
        raise UserError(
            "data.augment.resized_crop=true with data.augment.crop_padding: one kind of crop; set crop_padding=0"
        )
    if data.augment.resized_crop and data.in_memory:
        raise UserError(
            "data.augment.resized_crop=true with data.in_memory=true: crops of the original need in_memory=false"
        )
    if data.streaming and data.in_memory:
        raise UserError(
            "data.streaming=true with data.in_memory=true: they exclude each other; leave one null or false"
        )
    if (data.mean is None) != (data.std is None):
        raise UserError("data.mean and data.std: give both, or neither to have them measured")
    for name, values in (("mean", data.mean), ("std", data.std)):
        if values is not None and len(values) not in (1, 3):
            raise UserError(f"data.{name}={show(values)}: must have 1 or 3 numbers, one per channel")
        if values is not None and data.in_chans and len(values) not in (1, data.in_chans):
            raise UserError(
                f"data.{name}={show(values)}: must have one number, or {data.in_chans} as data.in_chans says"
            )
    for name, value in (("validation", data.validation), ("test", data.test)):
        if value is not None and value >= 1 and value != int(value):
            raise UserError(f"data.{name}={value:g}: must be a whole number of images, or a fraction below 1")
    ranks = config.trainer.devices * config.trainer.num_nodes
    if data.limit_train and data.drop_last and data.limit_train < data.batch_size * ranks:
        raise UserError(
            f"data.limit_train={data.limit_train}: is less than one batch of {data.batch_size} on each of {ranks} "
            "device(s), and data.drop_last=true would drop it; lower data.batch_size"
        )
    if config.mix.target and data.batch_size < 2:
        raise UserError(f"mix={config.mix.name} with data.batch_size=1: mixing needs at least two images in a batch")


def _no_leak(data: Data) -> None:
    """Test images must not be trained on. Two slices of a split are left to the user."""
    train, test = _whole(data.train_split), _whole(data.test_split or "")
    both = [name for name in test if name in train and (train[name] or test[name])]
    if "all" in train and test:  # the word of Hugging Face for every split
        both = list(test)
    if both or "all" in test:
        raise UserError(
            f"data.test_split={data.test_split}: {(both or ['all'])[0]} is in data.train_split={data.train_split}, "
            "too; test on images that are not trained on (slices: train[:80%] and train[80%:])"
        )


def _whole(text: str) -> dict[str, bool]:
    """The splits that an expression such as ``train[:80%]+extra`` names, and whether it takes all of each."""
    found: dict[str, bool] = {}
    for name, bracket in re.findall(r"([A-Za-z_][\w.-]*)(\[[^\]]*\]|)", re.sub(r"\(.*?\)", "", text)):
        found[name] = found.get(name, False) or not bracket
    return found


def _folder(given: str, folder: Path) -> None:
    if folder.is_file():
        raise UserError(f"{given}: is a file; give the folder that holds the images")
    if not folder.is_dir():
        raise UserError(f"{given}: there is no such folder; give the folder that holds the images")
    if next(folder.iterdir(), None) is None:
        raise UserError(f"{given}: the folder is empty; give the folder that holds the images")


def _optimizer(config: Config) -> None:
    if config.optimizer.nesterov and not config.optimizer.momentum:
        raise UserError("optimizer.nesterov=true: needs optimizer.momentum above 0")


def _scheduler(config: Config) -> None:
    epochs, scheduler = config.trainer.max_epochs, config.scheduler
    if scheduler.warmup_epochs > epochs:
        raise UserError(
            f"scheduler.warmup_epochs={scheduler.warmup_epochs:g}: is more than trainer.max_epochs={epochs}"
        )
    if scheduler.warmup_start and not scheduler.warmup_epochs:
        raise UserError(f"scheduler.warmup_start={scheduler.warmup_start:g}: needs scheduler.warmup_epochs above 0")
    late = [milestone for milestone in scheduler.milestones or [] if milestone >= epochs]
    if late:
        listed = ",".join(f"{milestone:g}" for milestone in scheduler.milestones or [])
        raise UserError(f"scheduler.milestones=[{listed}]: {late[0]:g} is not before trainer.max_epochs={epochs}")
    if scheduler.target.endswith(".schedules.step") and (not scheduler.milestones or scheduler.gamma is None):
        raise UserError("scheduler=step: needs scheduler.milestones (epochs) and scheduler.gamma")


def _trainer(config: Config) -> None:
    trainer = config.trainer
    if trainer.devices * trainer.num_nodes > 1 and trainer.strategy == "auto":
        raise UserError(
            f"trainer.devices={trainer.devices} with trainer={trainer.name}: several devices need trainer=ddp (GPUs) "
            "or trainer=ddp_cpu"
        )
    if trainer.backend and trainer.strategy != "ddp" and trainer.name in ("auto", "cpu", "gpu"):
        # evaluate.py runs a record of trainer=ddp on one device, its backend unused
        raise UserError(
            f"trainer.backend={trainer.backend} with trainer={trainer.name}: only trainer=ddp and ddp_cpu have one"
        )
    if trainer.backend == "nccl" and trainer.accelerator == "cpu":
        raise UserError("trainer.backend=nccl with trainer.accelerator=cpu: NCCL needs GPUs; use gloo")
    if trainer.precision == "16-mixed" and trainer.accelerator != "gpu" and not _has_gpu(config):
        raise UserError("trainer.precision=16-mixed: float16 on a CPU is not supported; use 32-true")
    if (
        trainer.precision == "bf16-mixed"
        and trainer.accelerator != "gpu"
        and not (_has_fast_bf16() or _has_gpu(config))
    ):
        raise UserError(
            "trainer.precision=bf16-mixed: this CPU has neither avx512_bf16 nor AMX (measured 14 times slower than "
            "float32); use 32-true"
        )
    cores = os.cpu_count() or 1
    if trainer.accelerator == "cpu" and trainer.devices > 4 * cores:
        raise UserError(
            f"trainer.devices={trainer.devices}: this machine has {cores} cores; at most {4 * cores} processes"
        )
    if trainer.threads and trainer.threads > most_threads():
        raise UserError(f"trainer.threads={trainer.threads}: this machine has {cores} cores; at most {most_threads()}")


def most_threads() -> int:
    """The most threads that a process may be told to use on this machine."""
    return 4 * (os.cpu_count() or 1)


def _paths(config: Config) -> None:
    place = Path(config.paths.runs_dir)
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise UserError(
            f"paths.runs_dir={config.paths.runs_dir}: {place} is no folder that may be written; choose another"
        )
    if config.resume and not all(c.isalnum() or c == "-" for c in config.resume):
        raise UserError(
            f"resume={config.resume}: must be auto or a run's id such as 3f2a9c01de-1; `python src/runs.py` lists them"
        )


def _gpus(config: Config) -> None:
    """Last, since it alone has to import torch."""
    if config.trainer.accelerator != "gpu" or config.dry_run:
        return
    import torch

    there = torch.cuda.device_count()
    if not there:
        raise UserError(
            f"trainer={config.trainer.name}: there is no GPU that torch can use here; use trainer=cpu or "
            "trainer=ddp_cpu"
        )
    if config.trainer.devices > there:
        raise UserError(f"trainer.devices={config.trainer.devices}: there are {there} GPUs here")


def _has_fast_bf16() -> bool:
    try:
        flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        return False
    return not FAST_BF16.isdisjoint(flags.split())


def _has_gpu(config: Config) -> bool:
    if config.trainer.accelerator == "cpu":
        return False
    import torch

    return torch.cuda.is_available()


CHECKS: tuple[Callable[[Config], None], ...] = (
    _model,
    _keys,
    _task,
    _data,
    _optimizer,
    _scheduler,
    _trainer,
    _paths,
    _gpus,
)
