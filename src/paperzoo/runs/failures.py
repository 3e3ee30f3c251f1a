"""What to say of a run that failed: the cause in one line, and what to do next."""

import errno
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from paperzoo.errors import NonFiniteLoss
from paperzoo.runs.checkpoints import newest_state
from paperzoo.runs.record import Failure

DISK = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "a file is larger than the limit allows (ulimit -f)",
    errno.EROFS: "the folder is read-only; choose another paths.runs_dir",
    errno.EACCES: "the folder may not be written; choose another paths.runs_dir",
}


NO_DETERMINISTIC_FORM = " does not have a deterministic implementation"  # torch's words
SECONDS = 3.0  # for a dead rank to be seen, after its connection broke


def explain(
    error: BaseException, trainer: Any, folder: Path, lost: Callable[[float], str | None] = lambda _: None
) -> Failure | None:
    """A failure that needs no traceback, or None for an error that does (a mistake of ours).

    Args:
        error: what was raised.
        trainer: Lightning's.
        folder: of the run.
        lost: the line about a rank that died, waiting so many seconds for one.
    """
    if isinstance(error, NonFiniteLoss):
        return Failure(kind="NonFiniteLoss", message=f"{_diverged(error, trainer)}; {_kept(folder)}")
    if _is_out_of_memory(error):
        advice = "halve data.batch_size and double trainer.accumulate_grad_batches, which keeps the global batch"
        return Failure(kind="OutOfMemory", message=f"out of memory: {advice}; {_kept(folder)}")
    if isinstance(error, OSError) and error.errno in DISK:
        place = error.filename or folder  # writing to an open file names none
        return Failure(
            kind="Disk", message=f"{DISK[error.errno]} ({place}); then go on with resume=auto; {_kept(folder)}"
        )
    if isinstance(error, RuntimeError) and NO_DETERMINISTIC_FORM in str(error):
        operation = str(error).split(NO_DETERMINISTIC_FORM)[0].strip()
        message = f"{operation} has no deterministic form on this device: set deterministic=false, which is recorded"
        return Failure(kind="NotDeterministic", message=message)
    if isinstance(error, RuntimeError) and (line := lost(SECONDS)):
        return Failure(kind="RankLost", message=f"{line}; go on with resume=auto; {_kept(folder)}")
    return None


def _diverged(error: NonFiniteLoss, trainer: Any) -> str:
    step = trainer.global_step - math.ceil(error.batches_ago / trainer.accumulate_grad_batches)
    schedule = trainer.lr_scheduler_configs[0].scheduler
    rate = schedule.base_lrs[0] * schedule.lr_lambdas[0](step)  # of that step: the schedule may have moved on
    last = "none" if error.last_finite is None else f"{error.last_finite:.4g}"
    return (
        f"the loss became {error.value} at step {step} (epoch {trainer.current_epoch + 1}), learning rate {rate:.4g}, "
        f"last finite loss {last}: lower optimizer.lr, set scheduler.warmup_epochs or trainer.gradient_clip_val"
    )


def _kept(folder: Path) -> str:
    try:
        state = newest_state(folder)
    except OSError:
        state = None
    return f"the last exact state is {state}" if state else f"no state was saved yet in {folder}"


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
