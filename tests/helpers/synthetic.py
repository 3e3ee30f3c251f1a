"""Records of runs that never were: as ``train.py`` writes them, with the results that a test wants."""

import hashlib
import random
from typing import Any

from paperzoo.runs.record import (
    Cost,
    DataRecord,
    Determinism,
    Failure,
    Provenance,
    Record,
    Result,
    Segment,
)
from paperzoo.sweeps.specification import Sweep

COMMAND = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]


def sweep(method: str = "grid", **changes: Any) -> Sweep:
    """Two models on six seeds, or a search over two keys."""
    parameters: dict[str, Any] = {
        "model": {"values": ["resnet", "scnet"]},
        "seed": {"values": [0, 1, 2, 3, 4, 5]},
        "trainer.max_epochs": {"value": 2},
    }
    if method != "grid":
        parameters = {
            "model": {"values": ["resnet", "scnet"]},
            "optimizer.lr": {"distribution": "log_uniform_values", "min": 0.001, "max": 1.0},
        }
    plain = {"program": "src/train.py", "method": method, "name": "x", "description": "Does it help?",
             "metric": {"name": "test/top1", "goal": "maximize"}, "command": COMMAND}  # fmt: skip
    return Sweep.model_validate({**plain, "parameters": parameters, **changes})


def record(
    model: str = "resnet",
    seed: int = 0,
    top1: float | None = None,
    *,
    attempt: int = 1,
    status: str = "finished",
    lr: float = 0.1,
    epochs: int = 2,
    code: str = "c0de",
    minute: int = 0,
    command: list[str] | None = None,
    config: dict[str, Any] | None = None,
) -> Record:
    """One run; its results follow from its settings unless ``top1`` is given."""
    drawn = random.Random(f"{model} {seed} {lr}")
    top1 = top1 if top1 is not None else round(0.8 + 0.05 * (model == "scnet") + drawn.gauss(0, 0.01), 4)
    identity = hashlib.sha256(f"{model} {seed} {lr} {epochs} {code}".encode()).hexdigest()[:10]
    rows: list[dict[str, float | int]] = [
        {"epoch": e, "step": 10 * e, "lr": lr / e, "train/loss": 2.0 / e, "train/top1": top1 - 0.3 / e,
         "val/top1": top1 - 0.2 / e, "images_per_second": 900.0 + drawn.random(), "seconds": 4.0 + drawn.random()}
        for e in range(1, epochs + 1)
    ]  # fmt: skip
    results = {
        "last": Result(epoch=epochs, step=10 * epochs, metrics={"test/top1": top1, "test/loss": 0.5, "val/top1": top1}),
        "best": Result(epoch=1, step=10, metrics={"test/top1": top1 + 0.01, "test/loss": 0.4, "val/top1": top1}),
    }
    plain = {
        "model": {"name": model, "network": f"{model}_small"}, "data": {"name": "fashion_mnist", "limit_train": None},
        "norm": {"name": "paper"}, "optimizer": {"name": "sgd", "lr": lr}, "seed": seed, "resume": None,
        "trainer": {"name": "cpu", "max_epochs": epochs}, "logger": {"name": "wandb"},
        "paths": {"data_dir": "/home/someone/data", "runs_dir": "/home/someone/runs"},
    }  # fmt: skip
    done = status == "finished"
    return Record(
        id=f"{identity}-{attempt}",
        identity=identity,
        attempt=attempt,
        status=status,  # type: ignore[arg-type]
        command=command or ["python", "/home/someone/zoo/src/train.py", f"model={model}", f"seed={seed}",
                            f"trainer.max_epochs={epochs}", "paths.runs_dir=/home/someone/runs"],
        config=plain | (config or {}),
        seed=seed,
        ranks=1,
        batch_size=64,
        global_batch_size=64,
        data=DataRecord(name="fashion_mnist", fingerprint="f00d", description="Fashion-MNIST (8,000 training images)",
                        sizes={"train": 8000, "val": 5000, "test": 10000}, skipped={}),
        provenance=Provenance(
            code_version=code, git_commit="0123456789abcdef", git_dirty=False, lock_hash="10c4",
            versions={"python": "3.11.2", "torch": "2.14.1", "numpy": "2.4.6", "six": "1.17.0"},
            hardware={"processor": "A processor", "cores": 2, "gpus": [], "cpu_capability": "AVX2"},
        ),
        determinism=Determinism(algorithms=True, cudnn_benchmark=False, cublas_workspace=None, threads=1),
        cost=Cost(parameters=127_578 if model == "scnet" else 121_000, macs=16_947_776,
                  images_per_second=900.0 + drawn.random(), peak_memory_bytes=900 * 2**20),
        segments=[Segment(host="someones-machine", pid=4321, process_started=1.5, process="b007/1234",
                          from_step=0,
                          started=f"2026-11-24T10:{minute:02}:{seed % 60:02}.000+00:00",
                          updated=f"2026-11-24T11:{minute:02}:{seed % 60:02}.000+00:00",
                          wall_seconds=round(10 + drawn.random(), 3), cpu_seconds=9.0)],
        epochs=rows if done else rows[:1],
        results=results if done else {},
        failure=None if done else Failure(kind="NonFiniteLoss", message="the loss became nan in epoch 2"),
    )  # fmt: skip


def records(models: tuple[str, ...] = ("resnet", "scnet"), seeds: int = 6) -> list[Record]:
    """All runs of ``sweep()``."""
    return [record(model, seed) for model in models for seed in range(seeds)]
