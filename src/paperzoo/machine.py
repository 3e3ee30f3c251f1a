"""Where a run computes: Lightning's trainer, devices, memory format, determinism."""

import logging
import math
import os
import warnings
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as L
import torch
from pytorch_lightning.profilers import PassThroughProfiler
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.trainer.states import TrainerFn

from paperzoo.config.schema import Config, Trainer
from paperzoo.errors import UserError
from paperzoo.norms.layer_sync import SyncNorms
from paperzoo.sharding import Sharded

# Lightning's advice that does not apply here: batches come from memory, loaders resume by themselves.
QUIET = (
    ".*does not have many workers.*",
    ".*your dataloader is not resumable.*",
    ".*available but not used.*",
    ".*in eval mode at the start of training.*",
    ".*LeafSpec.*",
    ".*offload_to_cpu=True and rank0_only=False.*",  # of FSDP's weights, after a fit: that is what is meant
    ".*Grad strides do not match bucket view strides.*",  # of 1x1 kernels in channels_last: both are the same layout
)


class Silent(PassThroughProfiler):
    """No profiling at no cost: Lightning opens some forty contexts a step, and its default makes each again."""

    NOTHING = nullcontext()

    def profile(self, action_name: str) -> Any:
        """Nothing."""
        return self.NOTHING


def make_trainer(config: Config, *plugins: Any) -> L.Trainer:
    """Lightning's trainer, without its own logging, bars and checkpoints: Paperzoo's callbacks are exact and cheap."""
    _quieten()
    set_flags(config)
    choice = config.trainer
    trainer = L.Trainer(
        accelerator=choice.accelerator,
        devices=choice.devices,
        num_nodes=choice.num_nodes,
        strategy=_strategy(choice),
        precision=choice.precision,
        max_epochs=choice.max_epochs,
        max_steps=choice.max_steps or -1,
        accumulate_grad_batches=choice.accumulate_grad_batches,
        gradient_clip_val=choice.gradient_clip_val,
        check_val_every_n_epoch=choice.check_val_every_n_epoch or 1,
        limit_train_batches=choice.limit_train_batches,
        limit_val_batches=choice.limit_val_batches,
        limit_test_batches=choice.limit_test_batches,
        deterministic=config.deterministic,
        benchmark=not config.deterministic,
        plugins=[*plugins, *([SyncNorms()] if choice.sync_batchnorm else [])],
        profiler=choice.profiler or Silent(),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        inference_mode=choice.strategy != "fsdp",  # its parts could not be put together again
        use_distributed_sampler=False,  # the data module gives each rank its part
    )
    stop_at_steps(trainer)
    strategy = trainer.strategy
    if isinstance(strategy, DDPStrategy | Sharded) and strategy.cluster_environment.creates_processes_externally:  # type: ignore[union-attr]
        strategy.setup_environment()  # so that rank 0 can tell the others the run folder
    return trainer


def stop_at_steps(trainer: L.Trainer) -> None:
    """With max_steps Lightning (2.6.6) takes a state of an epoch's end for one within it, and ends the epoch again."""
    trainer.fit_loop._iteration_based_training = lambda: False  # type: ignore[method-assign]


def validate_within_epochs(trainer: L.Trainer, choice: Trainer, batches: int) -> None:
    """Lightning's ``val_check_interval``, and a validation at the end of each epoch besides, as there always is one.

    Args:
        batches: that an epoch would have without ``trainer.limit_train_batches``.

    Raises:
        UserError: an epoch has fewer batches than the interval, or gradients would be half accumulated there.
    """
    if choice.val_check_interval is None:
        return
    trainer.val_check_interval = _interval(choice, _limited(batches, choice.limit_train_batches))
    loop: Any = trainer.fit_loop.epoch_loop
    is_time = loop._should_check_val_fx  # Lightning's leaves out the end of an epoch that is no multiple
    loop._should_check_val_fx = lambda fetcher: (
        is_time(fetcher) or (loop._num_ready_batches_reached() and loop._should_check_val_epoch())
    )


def _limited(batches: int, limit: int | float | None) -> int:
    if isinstance(limit, float):
        return int(batches * limit)
    return batches if limit is None else min(batches, limit)


def _interval(choice: Trainer, batches: int) -> int:
    """In batches; a share of an epoch is rounded up to whole optimiser steps, so that 0.5 is twice an epoch."""
    interval, every = choice.val_check_interval, choice.accumulate_grad_batches
    if isinstance(interval, float):
        return min(math.ceil(batches * interval / every) * every, batches)
    assert interval is not None
    if interval > batches:
        raise UserError(
            f"trainer.val_check_interval={interval}: an epoch has {batches} batches; give at most as many, or a share "
            "of them such as 0.25"
        )
    if interval % every and interval < batches:
        raise UserError(
            f"trainer.val_check_interval={interval}: must be a multiple of trainer.accumulate_grad_batches={every}, "
            "since weights change only then"
        )
    return interval


def is_validation_next(trainer: L.Trainer, batches: int) -> bool:
    """Whether a validation comes after so many batches of an epoch, before its end."""
    loop: Any = trainer.fit_loop.epoch_loop
    return batches % trainer.val_check_batch == 0 and loop._should_check_val_epoch()  # type: ignore[operator]


def batches_within(trainer: L.Trainer) -> int | None:
    """After a validation within an epoch the batches of it that are done; None after any other validation."""
    done = trainer.fit_loop.epoch_loop.batch_idx + 1
    within = trainer.state.fn == TrainerFn.FITTING and done < trainer.num_training_batches
    return done if within and not trainer.should_stop else None


def set_flags(config: Config) -> None:
    """Threads and determinism of this process."""
    _set_threads(config.trainer)
    if config.deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # Deterministic algorithms fill fresh memory by default, to find reads of it: a debugging aid that costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def set_threads(number: int) -> None:
    """Threads of this process; the variable keeps Lightning from choosing others when it starts ranks."""
    torch.set_num_threads(number)
    os.environ["OMP_NUM_THREADS"] = str(number)


def _set_threads(choice: Trainer) -> None:
    """As configured; else torch's own choice, which several ranks on one machine share."""
    if choice.threads:
        set_threads(choice.threads)
    elif choice.devices > 1 and "OMP_NUM_THREADS" not in os.environ:
        set_threads(max(1, torch.get_num_threads() // choice.devices))


def use_channels_last(choice: Trainer) -> bool:
    """As configured, else where it is faster: on tensor cores, and on a CPU (benchmarks/channels_last.py)."""
    if choice.channels_last is not None:
        return choice.channels_last
    on_gpu = choice.accelerator != "cpu" and torch.cuda.is_available()
    return choice.precision != "32-true" if on_gpu else True


def _strategy(choice: Trainer) -> Any:
    if choice.strategy == "ddp":
        return DDPStrategy(process_group_backend=choice.backend, gradient_as_bucket_view=True)
    if choice.strategy == "fsdp":
        return Sharded(choice.backend)
    return choice.strategy


def _quieten() -> None:
    for name in ("pytorch_lightning", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in QUIET:
        warnings.filterwarnings("ignore", message)
