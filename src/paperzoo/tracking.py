"""Weights & Biases: offline by default, and never a reason for a run to stop."""

from pathlib import Path
from typing import Any, Literal

from paperzoo.errors import UserError
from paperzoo.runs.publishing import published
from paperzoo.runs.record import Record

RECORD = "record"  # the key of the configuration that holds a run's record as JSON
STEP = "trainer/global_step"
PATIENCE = 20.0  # seconds for W&B's server to answer


class Wandb:
    """One W&B run, kept in the run folder; only rank 0 makes one.

    Args:
        folder: the run folder; W&B writes below ``wandb/`` in it.
        run_id: the Paperzoo id, so that a resumed run goes on under the same name.
        config: the resolved configuration.
        mode: ``offline`` needs no account; ``online`` needs ``wandb login``.
    """

    def __init__(
        self,
        *,
        folder: Path,
        run_id: str,
        config: dict[str, Any],
        tags: list[str],
        mode: Literal["offline", "online", "disabled"],
        project: str,
        entity: str | None = None,
    ) -> None:
        import wandb

        settings = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, init_timeout=PATIENCE)
        same: dict[str, Any] = {"project": project, "entity": entity, "dir": folder, "id": run_id, "name": run_id}
        same |= {"config": config, "tags": tags, "settings": settings}
        self.note: str | None = None  # what the user should know of it
        try:
            self.run = wandb.init(**same, mode=mode, resume="allow" if mode == "online" else None)
        except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
            raise UserError(
                f"logger.mode=online: W&B does not let this machine in ({_first_line(error)}); run `wandb login`, set "
                "WANDB_API_KEY, or use logger.mode=offline"
            ) from None
        except wandb.errors.CommError as error:
            wandb.teardown()  # it holds the run's id
            self.run = wandb.init(**same, mode="offline")
            self.note = (
                f"W&B cannot be reached ({_first_line(error)}): this run logs offline, "
                f"`wandb sync {folder}/wandb/offline-run-*` sends it later"
            )
        self.run.define_metric(STEP)
        self.run.define_metric("*", step_metric=STEP)  # W&B's own counter is not the optimiser's step

    def log(self, metrics: dict[str, float | int], step: int) -> None:
        """Log metrics against the optimiser's step."""
        self.run.log({**metrics, STEP: step})

    def finish(self, entry: Record) -> None:
        """Close the run with its record, from which a report is made; one that failed must not read as finished."""
        self.run.config.update({RECORD: published(entry).model_dump_json()}, allow_val_change=True)
        self.run.summary.update(entry.metrics)
        self.run.finish(exit_code=0 if entry.status == "finished" else 1)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
