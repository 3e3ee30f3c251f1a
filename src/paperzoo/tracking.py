"""Weights & Biases: offline by default, and never a reason for a run to stop."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from paperzoo.errors import UserError, first_line
from paperzoo.runs.publishing import published
from paperzoo.runs.record import Record

RECORD = "record"  # the key of the configuration that holds a run's record as JSON
STEP = "trainer/global_step"
PATIENCE = 20.0  # seconds for W&B's server to answer, and to take what is left at the end


class Tracker:
    """A tracker of experiments that a run tells its metrics.

    Args:
        name: what messages call it.
        tell: prints a line for the user.
    """

    def __init__(self, name: str, tell: Callable[[str], None]) -> None:
        self.name, self.tell = name, tell
        self.lost = False

    def _try(self, send: Callable[[], Any]) -> None:
        """A server or process may be gone, or a disk full: that is said once, and the run goes on without it."""
        if self.lost:
            return
        try:
            send()
        except Exception as error:
            self.lost = True
            rest = f"the run goes on without it, its record is whole{self._rescue()}"
            self.tell(f"note: {self.name} is lost ({first_line(error)}): {rest}")
            self._give_up()

    def _rescue(self) -> str:
        """How the user may send what the tracker had, for the line that says it is lost."""
        return ""

    def _give_up(self) -> None:
        """What must be closed once it is lost."""


class Wandb(Tracker):
    """One W&B run, kept in the run folder; only rank 0 makes one.

    Args:
        folder: the run folder; W&B writes below ``wandb/`` in it.
        run_id: the Paperzoo id, so that a resumed run goes on under the same name.
        config: the resolved configuration.
        tell: prints a line for the user.
        mode: ``offline`` needs no account; ``online`` needs ``wandb login``; ``auto`` is ``WANDB_MODE`` if that is
            set, else ``online`` where a W&B agent started the run and ``offline`` elsewhere.
    """

    def __init__(
        self,
        *,
        folder: Path,
        run_id: str,
        config: dict[str, Any],
        tags: list[str],
        tell: Callable[[str], None],
        mode: Literal["auto", "offline", "online", "disabled"],
        project: str,
        entity: str | None = None,
    ) -> None:
        import wandb

        super().__init__("W&B", tell)
        settings = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            save_code=False,
            init_timeout=PATIENCE,
            finish_timeout=PATIENCE,
            finish_timeout_raises=True,
        )
        same: dict[str, Any] = {"project": project, "entity": entity, "dir": folder, "id": run_id, "name": run_id}
        same |= {"config": config, "tags": tags, "settings": settings}
        mode = automatic_mode() if mode == "auto" else mode
        self.folder = folder
        try:
            self.run = wandb.init(**same, mode=mode, resume="allow" if mode == "online" else None)
        except (wandb.errors.AuthenticationError, wandb.errors.UsageError) as error:
            raise UserError(
                f"logger.mode=online: W&B does not let this machine in ({first_line(error)}); run `wandb login`, set "
                "WANDB_API_KEY, or use logger.mode=offline"
            ) from None
        except wandb.errors.CommError as error:
            wandb.teardown()  # it holds the run's id
            os.environ.pop(wandb.env.SERVICE, None)  # as does a service that another process began: a new one is begun
            self.run = wandb.init(**same, mode="offline")
            tell(
                f"note: W&B cannot be reached ({first_line(error)}): this run logs offline, "
                f"`wandb sync {folder}/wandb/offline-run-*` sends it later"
            )
        self.run.define_metric(STEP)
        self.run.define_metric("*", step_metric=STEP)  # W&B's own counter is not the optimiser's step

    def log(self, metrics: dict[str, float | int], step: int) -> None:
        """Log metrics against the optimiser's step."""
        self._try(lambda: self.run.log({**metrics, STEP: step}))

    def finish(self, entry: Record) -> None:
        """Close the run with its record, from which a report is made; one that failed must not read as finished."""
        held = {RECORD: published(entry).model_dump_json()}
        self._try(lambda: self.run.config.update(held, allow_val_change=True))
        self._try(lambda: self.run.summary.update(entry.metrics))
        self._try(lambda: self.run.finish(exit_code=0 if entry.status == "finished" else 1))

    def _rescue(self) -> str:
        return f", `wandb sync --no-skip-online {self.folder}/wandb/*run-*` sends what W&B had"

    def _give_up(self) -> None:
        import wandb

        with contextlib.suppress(Exception):
            wandb.teardown()  # or it would try again, with a traceback, when this process ends


def automatic_mode() -> Any:
    """What ``logger.mode=auto`` means here: online under a W&B agent, whose sweep would miss an offline run."""
    return os.environ.get("WANDB_MODE") or ("online" if "WANDB_SWEEP_ID" in os.environ else "offline")
