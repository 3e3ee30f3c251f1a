"""Reports that tests draw: variants with scores that are a function of a seed, and records to go with them."""

import math
import random
from dataclasses import replace
from typing import Any

from scipy import stats

from paperzoo.reports.model import ClaimLine, Comparison, Interval, Report, Variant, Verdict
from paperzoo.runs.record import Cost, DataRecord, Determinism, Provenance, Record, Result, Segment

HOSTILE = '<script>alert("x")</script>&$a_1$\x1b[31m'
VERDICTS: tuple[Verdict, ...] = ("better", "worse", "looks better", "no difference", "undecided")


def record(name: str, seed: int, score: float, epochs: int = 5, **changes: Any) -> Record:
    """A finished run of a variant."""
    rows: list[dict[str, float | int]] = [
        {"epoch": e, "val/top1": score * (1 - 0.5 / e), "train/loss": 1 / e} for e in range(1, epochs + 1)
    ]
    started = "2026-11-01T10:00:00.000+00:00"
    whole: dict[str, Any] = {
        "id": f"{abs(seed):04}-{len(name)}",
        "identity": "0" * 64,
        "attempt": 1,
        "status": "finished",
        "command": ["src/train.py", f"model={name}", f"seed={seed}"],
        "config": {"model": {"name": name}, "norm": {"name": "batch"}},
        "seed": seed,
        "ranks": 1,
        "batch_size": 64,
        "global_batch_size": 64,
        "data": DataRecord(name="d", fingerprint="f", description="d", sizes={"train": 9}, skipped={}),
        "provenance": Provenance(
            code_version="c", git_commit=None, git_dirty=None, lock_hash=None, versions={}, hardware={}
        ),
        "determinism": Determinism(algorithms=True, cudnn_benchmark=False, cublas_workspace=None, threads=1),
        "cost": Cost(parameters=100_000, macs=10_000_000, images_per_second=900.0, peak_memory_bytes=2**29),
        "segments": [
            Segment(
                host="h", pid=1, process_started=0.0, started=started, updated=started, from_step=0, wall_seconds=60.0
            )
        ],
        "epochs": rows,
        "results": {"last": Result(epoch=epochs, step=10 * epochs, metrics={"test/top1": score})},
    }
    return Record(**whole | changes)


def interval(values: list[float]) -> Interval | None:
    """The mean with its t interval."""
    n = len(values)
    if not n:
        return None
    mean = math.fsum(values) / n
    if n == 1:
        return Interval(mean, None, None, 1, "none")
    spread = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n) * stats.t.ppf(0.975, n - 1)
    return Interval(mean, mean - spread, mean + spread, n, "t")


def variant(name: str, place: int, seeds: int = 6, *, baseline: bool = False, **changes: Any) -> Variant:
    """A variant around 85 % and half a point more for each place."""
    draw = random.Random(place)
    scores = [85 + 0.5 * (place % 7) + draw.gauss(0, 0.4) for _ in range(seeds)]
    whole: dict[str, Any] = {
        "name": name,
        "settings": {"model": name},
        "command": f"python src/train.py model={name} data=fashion_mnist data.limit_train=8000 seed=0",
        "runs": tuple(record(name, seed, score / 100) for seed, score in enumerate(scores)),
        "scores": tuple(scores),
        "score": interval(scores),
        "best_score": interval([score + 0.1 for score in scores]),
        "counts": {"finished": seeds, "failed": place % 2},
        "cost": {
            "parameters": Interval(1e5 + 2e3 * place, None, None, seeds, "none"),
            "macs": Interval(1.5e7 + 1e6 * place, None, None, seeds, "none"),
            "seconds": Interval(60 + 9 * place, 58 + 9 * place, 62 + 9 * place, seeds, "t"),
            "units_per_second": Interval(900 - 30 * place, None, None, seeds, "none"),
            "peak_memory_mib": Interval(512 + place, None, None, seeds, "none"),
        },
        "baseline": baseline,
    }
    return Variant(**whole | changes)


def comparison(variant: Variant, baseline: Variant, verdict: Verdict) -> Comparison:
    """A variant against the baseline; the tests' figures are drawn, not computed."""
    differences = [a - b for a, b in zip(variant.scores, baseline.scores, strict=False)]
    enough = len(differences) > 1
    p = 0.0123 if enough else None
    return Comparison(
        variant=variant.name,
        n=len(differences),
        difference=interval(differences),
        p=p,
        p_holm=p,
        p_sign_flip=0.03125 if enough else None,
        effect_size=1.5 if enough else None,
        detectable=0.61 if enough else None,
        probability=0.93 if enough else None,
        verdict=verdict if enough else "undecided",
    )


def report(names: tuple[str, ...] = ("resnet", "resnext", "scnet"), seeds: int = 6, **changes: Any) -> Report:
    """A report of a grid; the first variant is the baseline."""
    variants = tuple(variant(name, place, seeds, baseline=place == 0) for place, name in enumerate(names))
    verdicts = [VERDICTS[place % len(VERDICTS)] for place in range(len(variants))]
    whole: dict[str, Any] = {
        "name": "scnet_at_equal_cost",
        "title": "SCNet at equal cost",
        "question": "At equal parameters, does self-calibration beat plain and grouped convolutions?",
        "answer": "scnet is better than resnet by 1.02 percentage points (0.71 to 1.33). Undecided: with 6 seeds, "
        "resnext lies between 0.20 points worse and 0.41 points better than resnet.",
        "method": "grid",
        "metric": "test/top1",
        "unit": "%",
        "goal": "maximize",
        "worth": 0.5,
        "made_by": "python src/report.py sweeps/scnet_at_equal_cost.yaml",
        "swept": ("model",),
        "variants": variants,
        "comparisons": tuple(comparison(a, variants[0], v) for a, v in zip(variants[1:], verdicts, strict=False)),
        "claims": (
            ClaimLine(
                paper="scnet",
                claim="imagenet",
                statement="self-calibrated convolutions make ResNet-50 more accurate at the same number of parameters",
                reported="22.19 % top-1 error (SCNet-50), ImageNet, MCG-NKU/SCNet",
                measured="scnet against resnet, test/top1: +1.02 (+0.71 to +1.33), n = 6",
                verdict="direction holds (scaled down)",
            ),
        ),
        "scale": (
            "Networks of 0.1 M parameters on 8,000 images of Fashion-MNIST; the paper trains 25.6 M on ImageNet.",
            "A difference under 0.61 percentage points could not be seen with 6 seeds.",
        ),
        "problems": ("resnext: 1 run failed (out of memory) and is not among its 6",),
        "facts": {
            "data": "fashion_mnist, 8,000 of 60,000 training images",
            "machine": "2 cores, 8 GB",
            "wall time": "41 min",
        },
        "commands": {
            "run the sweep": "python src/sweep.py sweeps/scnet_at_equal_cost.yaml agents=2",
            "write the report again": "python src/reproduce.py reports/scnet_at_equal_cost",
        },
    }
    return Report(**whole | changes)


def search(trials: int = 24) -> Report:
    """A report of a search over three keys."""
    draw = random.Random(5)
    variants = []
    for place in range(trials):
        settings = {
            "optimizer.lr": 10 ** draw.uniform(-3, -0.5),
            "data.batch_size": draw.choice([32, 64, 128]),
            "norm": draw.choice(["batch", "group", "switchable"]),
        }
        name = ", ".join(f"{key}={value}" for key, value in settings.items())
        variants.append(variant(name, place, 1, settings=settings))
    importance = {"optimizer.lr": 0.71, "norm": 0.2, "data.batch_size": 0.09}
    swept = tuple(variants[0].settings)
    return replace(
        report(),
        method="bayes",
        swept=swept,
        variants=tuple(variants),
        comparisons=(),
        importance=importance,
        claims=(),
    )


def empty() -> Report:
    """A sweep of which nothing ran."""
    return replace(report(), variants=(), comparisons=(), claims=(), problems=("no run of this sweep is on record",))
