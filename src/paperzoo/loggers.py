"""TensorBoard and MLflow: Lightning's own loggers, given the rows that the run folder's tables have.

Neither is ever a reason for a run to stop.
"""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import MLFlowLogger, TensorBoardLogger

from paperzoo.runs.record import Record
from paperzoo.tracking import Tracker

TENSORBOARD = "tensorboard"  # in the run folder
RUN_NAME = "mlflow.runName"
# An MLflow server that does not answer is tried for minutes by default; here each call gives up within half a minute.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


class Logged(Tracker):
    """One of Lightning's loggers behind the calls that a run makes; only rank 0 makes one."""

    logger: Any = None

    def log(self, metrics: dict[str, float | int], step: int) -> None:
        """Log metrics against the optimiser's step."""
        self._try(lambda: self.logger.log_metrics(metrics, step))

    def finish(self, entry: Record) -> None:
        """Log the final metrics, and close the run; one that failed must not read as finished."""
        step = int(entry.epochs[-1]["step"]) if entry.epochs else 0
        self._try(lambda: self._end(entry, step))
        self._try(lambda: self.logger.finalize("success" if entry.status == "finished" else "failed"))

    def _end(self, entry: Record, step: int) -> None:
        self.logger.log_metrics(entry.metrics, step)


class TensorBoard(Logged):
    """Event files below ``tensorboard/`` in the run folder: ``tensorboard --logdir runs`` shows all runs.

    TensorBoard keeps float32; the configuration and the final metrics are under its tab of hyperparameters.
    """

    def __init__(
        self, *, folder: Path, run_id: str, config: dict[str, Any], tags: list[str], tell: Callable[[str], None]
    ) -> None:
        super().__init__("TensorBoard", tell)
        self.config = {**config, "tags": ", ".join(tags), "run": run_id}
        self.logger = TensorBoardLogger(folder, name="", version=TENSORBOARD, default_hp_metric=False)

    def _end(self, entry: Record, step: int) -> None:
        self.logger.log_hyperparams(self.config, entry.metrics, step)


class MLflow(Logged):
    """One run of an MLflow experiment, named by the Paperzoo id; a run that is resumed goes on in the same.

    Args:
        folder: the run folder.
        experiment: MLflow's name of what runs are shown together.
        tracking_uri: the server or data base; None is ``MLFLOW_TRACKING_URI`` if that is set, else
            ``mlflow.db`` in the folder of all runs (``mlflow ui --backend-store-uri sqlite:///runs/mlflow.db``).
    """

    def __init__(
        self,
        *,
        folder: Path,
        run_id: str,
        config: dict[str, Any],
        tags: list[str],
        tell: Callable[[str], None],
        experiment: str,
        tracking_uri: str | None = None,
    ) -> None:
        super().__init__("MLflow", tell)
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        for name in ("mlflow", "alembic", "pytorch_lightning.loggers.mlflow"):  # of tables and experiments they make
            logging.getLogger(name).setLevel(logging.ERROR)
        uri = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.parents[2]}/mlflow.db"
        about: dict[str, Any] = {"experiment_name": experiment, "run_name": run_id, "tracking_uri": uri}
        self._try(lambda: self._begin(about, config, {"paperzoo.tags": ", ".join(tags)} if tags else {}))

    def _begin(self, about: dict[str, Any], config: dict[str, Any], tags: dict[str, str]) -> None:
        known = _run_of(MLFlowLogger(**about)._mlflow_client, about["experiment_name"], about["run_name"])
        self.logger = MLFlowLogger(**about, tags=tags, run_id=known)
        if known is None:  # MLflow refuses a parameter that changes, such as the folder of a run that was moved
            self.logger.log_hyperparams(config)


def _run_of(client: Any, experiment: str, name: str) -> str | None:
    """MLflow's id of the run that it has under a name already."""
    found = client.get_experiment_by_name(experiment)
    if found is None:
        return None
    runs = client.search_runs([found.experiment_id], f"tags.`{RUN_NAME}` = '{name}'", max_results=1)
    return runs[0].info.run_id if runs else None
