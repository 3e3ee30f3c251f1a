"""Combinations that cannot work, found before anything is loaded."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from paperzoo import cards
from paperzoo.config.messages import nearest, show
from paperzoo.config.schema import Choice, Config
from paperzoo.errors import UserError

FAST_BF16 = {"avx512_bf16", "amx_bf16"}


def check(config: Config) -> None:
    """Run all checks.

    Raises:
        UserError: the first that fails, in one line.
    """
    for each in CHECKS:
        each(config)


def _model(config: Config) -> None:
    """The network and the options are those of the paper's card."""
    model = config.model
    if not re.fullmatch(r"\w[\w.-]*", model.name):
        raise UserError(f"model.name={model.name}: must be of letters, digits, _, - and ., since a folder is named so")
    if model.name not in cards.slugs():
        if model.target.startswith("paperzoo."):
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
    options = {option.name: option for option in card.options if option.of == "model"}
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
        if options[key].paper and value is not None:
            _papers(f"model.{key}", value, config.data.task)
        if value is not None and options[key].only_for and not options[key].applies_to(model.network):
            raise UserError(
                f"model.{key}={show(value)}: only for {options[key].only_for}, not for {model.network}; leave it null"
            )
    published = model.checkpoint and not model.checkpoint.startswith("run:")
    if published and not Path(str(model.checkpoint)).is_file():
        raise UserError(f"model.checkpoint={model.checkpoint}: there is no such file")


def _papers(key: str, value: str | list[str], task: str) -> None:
    """An option that names a paper, or several: they are there, and do what the data asks for."""
    able = [name for name in cards.slugs() if task in cards.load(name).tasks]
    for slug in value if isinstance(value, list) else [value]:
        if slug not in able:
            what = f"does not do {task}" if slug in cards.slugs() else "there is no such paper"
            raise UserError(f"{key}={slug}: {what}; papers that do: {', '.join(able)}{nearest(str(slug), able)}")


def _options(config: Config) -> None:
    """What the options of a choice demand of the rest."""
    for name in type(config).model_fields:
        choice = getattr(config, name)
        if isinstance(choice, Choice):
            choice.check(config)


def _task(config: Config) -> None:
    """The model does what the data asks for."""
    data, model = config.data, config.model
    if model.name not in cards.slugs() or data.task in cards.load(model.name).tasks:
        return
    able = [slug for slug in cards.slugs() if data.task in cards.load(slug).tasks]
    tasks = cards.load(model.name).tasks
    raise UserError(
        f"model={model.name} with data={data.name}: it does {' and '.join(tasks)}, this data is for {data.task}; use "
        + (f"model={' or '.join(able)}" if able else "other data")
    )


def _parts(config: Config) -> None:
    """Losses, samplers, mixes and norms go with what is learned from what."""
    data = config.data
    for group in type(config).model_fields:
        choice = getattr(config, group)
        if not isinstance(choice, Choice):
            continue
        if choice.tasks is not None and data.task not in choice.tasks:
            raise UserError(
                f"{group}={choice.name} with data={data.name}: it {choice.why}; it goes with data for "
                f"{' or '.join(choice.tasks)}, this is for {data.task}"
            )
        if choice.needs_labels() and not data.labelled:
            raise UserError(
                f"{group}={choice.name}: this data has no class for each training sample; use sampler=shuffled"
            )


def _norm(config: Config) -> None:
    model = config.model
    if config.norm.target and model.name in cards.slugs() and not cards.load(model.name).normalises:
        raise UserError(
            f"norm={config.norm.name} with model={model.name}: its network has no normalisation layers to replace; "
            "use norm=paper"
        )


def _mix(config: Config) -> None:
    if config.mix.target and config.data.batch_size < 2:
        raise UserError(f"mix={config.mix.name} with data.batch_size=1: mixing needs at least two images in a batch")


def _optimizer(config: Config) -> None:
    options = config.optimizer.model_dump()
    if options.get("nesterov") and not options.get("momentum"):
        raise UserError("optimizer.nesterov=true: needs optimizer.momentum above 0")


def _scheduler(config: Config) -> None:
    epochs, scheduler = config.trainer.max_epochs, config.scheduler
    if config.trainer.fast_dev_run:
        return
    if scheduler.warmup_epochs > epochs:
        raise UserError(
            f"scheduler.warmup_epochs={scheduler.warmup_epochs:g}: is more than trainer.max_epochs={epochs}"
        )
    milestones = getattr(scheduler, "milestones", None) or []  # of any schedule that has some
    if late := [milestone for milestone in milestones if milestone >= epochs]:
        listed = ",".join(f"{milestone:g}" for milestone in milestones)
        raise UserError(f"scheduler.milestones=[{listed}]: {late[0]:g} is not before trainer.max_epochs={epochs}")
    if scheduler.warmup_start and not scheduler.warmup_epochs:
        raise UserError(f"scheduler.warmup_start={scheduler.warmup_start:g}: needs scheduler.warmup_epochs above 0")


def _trainer(config: Config) -> None:
    trainer = config.trainer
    if trainer.devices * trainer.num_nodes > 1 and trainer.strategy == "auto":
        raise UserError(
            f"trainer.devices={trainer.devices} with trainer={trainer.name}: several devices need trainer=ddp (GPUs) "
            "or trainer=ddp_cpu"
        )
    every = trainer.check_val_every_n_epoch or 1
    if trainer.max_epochs % every:
        raise UserError(
            f"trainer.check_val_every_n_epoch={every}: trainer.max_epochs={trainer.max_epochs} must be a multiple "
            "of it, so that the last weights are validated"
        )
    if trainer.val_check_interval and not config.procedure.is_fit:
        raise UserError(
            f"trainer.val_check_interval={show(trainer.val_check_interval)} with procedure={config.procedure.name}: "
            "what its stages leave is that of the end of an epoch; only procedure=fit validates within epochs"
        )
    if trainer.backend and trainer.strategy == "auto" and trainer.name in ("auto", "cpu", "gpu"):
        # evaluate.py runs a record of trainer=ddp on one device, its backend unused
        raise UserError(
            f"trainer.backend={trainer.backend} with trainer={trainer.name}: only trainer=ddp, ddp_cpu, fsdp and "
            "fsdp_cpu have one"
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


WHOLE = ("Adafactor", "LBFGS", "Muon")  # torch's optimisers that look at more than one number of a parameter


def _sharding(config: Config) -> None:
    """With FSDP each rank has a part of every parameter, a row of numbers without its shape."""
    trainer, optimizer = config.trainer, config.optimizer
    if trainer.strategy != "fsdp":
        return
    kind = optimizer.target.removeprefix("torch.optim.")
    refused = {
        f"trainer.devices={trainer.devices}": (
            trainer.devices * trainer.num_nodes < 2,
            "there is nothing to divide among; give at least 2",
        ),
        f"procedure={config.procedure.name}": (
            not config.procedure.is_fit,
            "its stages use the whole network between fits; only procedure=fit trains in parts",
        ),
        f"average={config.average.name if config.average else ''}": (
            config.average is not None,
            "the average is of whole weights, for which one rank has no room",
        ),
        f"trainer.precision={trainer.precision}": (
            trainer.precision == "64-true",
            "Lightning's FSDP has 32-true, 16-mixed and bf16-mixed",
        ),
        "trainer.compile=true": (trainer.compile, "a compiled network is not divided"),
        "model.freeze": (bool(config.model.freeze), "parts have numbers of frozen and of trained parameters"),
        f"optimizer={optimizer.name}": (
            kind == optimizer.target or kind in WHOLE,
            "it may look at whole parameters; use one of torch's that go number by number, such as sgd and adamw",
        ),
    }
    for words, (is_refused, why) in refused.items():
        if is_refused:
            raise UserError(f"{words} with trainer.strategy=fsdp: {why}")


def most_threads() -> int:
    """The most threads that a process may use on this machine."""
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
        several = "fsdp_cpu" if config.trainer.strategy == "fsdp" else "ddp_cpu"
        raise UserError(
            f"trainer={config.trainer.name}: there is no GPU that torch can use here; use trainer=cpu or "
            f"trainer={several}"
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
    _task,
    _options,
    _parts,
    _norm,
    _mix,
    _optimizer,
    _scheduler,
    _trainer,
    _sharding,
    _paths,
    _gpus,
)
