"""What TensorBoard and MLflow were told: read back where they are installed, else taken by modules of their interface.

The stand-ins have the functions of both packages that Lightning's loggers call, and keep what these are given.
"""

import sys
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

INSTALLED = {name: find_spec(name) is not None for name in ("tensorboard", "mlflow")}
Values = dict[tuple[str, int], list[float]]  # by name and step


def stand_in(monkeypatch: Any, folder: Path) -> dict[str, Any]:
    """Put modules in place of what is not installed; what they are given, by package."""
    told: dict[str, Any] = {"tensorboard": {}, "mlflow": {}}
    if not INSTALLED["tensorboard"]:
        _tensorboard(monkeypatch, told["tensorboard"])
    if not INSTALLED["mlflow"]:
        _mlflow(monkeypatch, told["mlflow"])
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return told


def values(package: str, told: dict[str, Any], runs: Path, run: Path) -> Values:
    """What a package has of a run."""
    if not INSTALLED[package]:
        return told[package]["values"]
    return _events(run / "tensorboard") if package == "tensorboard" else _history(runs, _run(runs))


def _events(folder: Path) -> Values:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found: Values = {}
    for file in sorted(folder.glob("events*")):
        events = EventAccumulator(str(file), size_guidance={"scalars": 0})
        events.Reload()
        for name in events.Tags()["scalars"]:
            for event in events.Scalars(name):
                found.setdefault((name, event.step), []).append(event.value)
    return found


def _client(runs: Path) -> Any:
    from mlflow.tracking import MlflowClient

    return MlflowClient(f"sqlite:///{runs}/mlflow.db")


def _run(runs: Path) -> Any:
    client = _client(runs)
    (run,) = client.search_runs([client.get_experiment_by_name("paperzoo").experiment_id])
    return run


def _history(runs: Path, run: Any) -> Values:
    found: Values = {}
    for name in run.data.metrics:
        for metric in _client(runs).get_metric_history(run.info.run_id, name):
            found.setdefault((name, metric.step), []).append(metric.value)
    return found


def mlflow_runs(told: dict[str, Any], runs: Path) -> list[tuple[str, str, dict[str, str]]]:
    """Name, status and parameters of each run that MLflow has."""
    if not INSTALLED["mlflow"]:
        return [(run["tags"]["mlflow.runName"], run["status"], run["params"]) for run in told["mlflow"]["runs"]]
    run = _run(runs)
    return [(run.info.run_name, run.info.status, run.data.params)]


def _module(monkeypatch: Any, name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None, is_package=True)
    module.__path__ = []
    for key, value in content.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)
    return module


def _tensorboard(monkeypatch: Any, told: dict[str, Any]) -> None:
    """As tensorboardX, which Lightning takes as well."""
    from lightning_fabric.loggers import tensorboard as of_fabric

    told |= {"values": {}, "hparams": []}

    class SummaryWriter:
        def __init__(self, log_dir: str) -> None:
            self.log_dir = log_dir
            Path(log_dir).mkdir(parents=True)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            told["values"].setdefault((name, step), []).append(float(value))

        def _get_file_writer(self) -> Any:
            return SimpleNamespace(add_summary=lambda summary, step: told["hparams"].append(summary))

        def flush(self) -> None:
            pass

        def close(self) -> None:
            pass

    monkeypatch.setattr(of_fabric, "_TENSORBOARDX_AVAILABLE", True)
    _module(monkeypatch, "tensorboardX", SummaryWriter=SummaryWriter)
    _module(monkeypatch, "tensorboardX.summary", hparams=lambda params, metrics: (params, metrics, None))


def _mlflow(monkeypatch: Any, told: dict[str, Any]) -> None:
    from pytorch_lightning.loggers import mlflow as of_lightning

    told |= {"values": {}, "runs": [], "experiments": []}

    class MlflowClient:
        def __init__(self, uri: str) -> None:
            told["uri"] = uri

        def get_experiment_by_name(self, name: str) -> Any:
            known = SimpleNamespace(experiment_id="1", lifecycle_stage="active")
            return known if name in told["experiments"] else None

        def create_experiment(self, name: str, artifact_location: Any) -> str:
            told["experiments"].append(name)
            return "1"

        def search_runs(self, experiments: list[str], wanted: str, max_results: int) -> list[Any]:
            return [r["run"] for r in told["runs"] if f"= '{r['tags']['mlflow.runName']}'" in wanted][:max_results]

        def create_run(self, experiment_id: str, tags: dict[str, str]) -> Any:
            info = SimpleNamespace(run_id=str(len(told["runs"])), experiment_id=experiment_id)
            told["runs"].append({"run": SimpleNamespace(info=info), "tags": tags, "params": {}, "status": "RUNNING"})
            return told["runs"][-1]["run"]

        def get_run(self, run_id: str) -> Any:
            return told["runs"][int(run_id)]["run"]

        def log_batch(self, run_id: str, metrics: Any = (), params: Any = ()) -> None:
            for metric in metrics:
                told["values"].setdefault((metric.key, metric.step), []).append(float(metric.value))
            told["runs"][int(run_id)]["params"].update({param.key: param.value for param in params})

        def set_terminated(self, run_id: str, status: str) -> None:
            told["runs"][int(run_id)]["status"] = status

    monkeypatch.setattr(of_lightning, "_MLFLOW_AVAILABLE", True)
    _module(monkeypatch, "mlflow", set_tracking_uri=lambda uri: None)
    _module(monkeypatch, "mlflow.entities", Metric=SimpleNamespace, Param=SimpleNamespace)
    _module(monkeypatch, "mlflow.utils")
    _module(monkeypatch, "mlflow.utils.mlflow_tags", MLFLOW_RUN_NAME="mlflow.runName")
    _module(monkeypatch, "mlflow.tracking", MlflowClient=MlflowClient)
    _module(monkeypatch, "mlflow.tracking.context", resolve_tags=lambda tags: tags or {})
