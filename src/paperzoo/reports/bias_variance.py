"""Bias and variance of a report's variants, whose seeds are repetitions of one training.

    python -m paperzoo.reports.bias_variance reports/<name>     options: runs_dir=runs data_dir=data

asks the last weights of each run for the classes of the test split, writes ``disagreement.json`` into the report's
folder (on how many images two runs of a variant differ, and each is wrong) and derives the pages, which then show the
decomposition. For variance over training sets, as bagging lowers it, seeds need training sets of their own
(``data.split_seed=${seed}``); else it is the variance over weights, order and augmentation alone.

The decomposition of the zero-one loss by Kohavi and Wolpert (Bias Plus Variance Decomposition for Zero-One Loss
Functions, 1996), without noise: the mean error is ``bias² + variance``. With p(y) the probability that a repetition
says y of an image, variance is ``(1 - Σ p(y)²) / 2``, the mean over images of half the probability that two repetitions
differ. Pairs of different runs estimate that without bias for any number of runs.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from paperzoo.errors import UserError
from paperzoo.reports.model import Decomposition, Interval, Variant
from paperzoo.runs.record import Record, write_atomically

FILE = "disagreement.json"
LEAST = 3  # runs: of two there is one pair, and no interval

Estimate = Callable[[np.ndarray], float]


def error(counts: np.ndarray) -> float:
    """The mean share of images on which a run is wrong; ``counts`` as ``decompose``, as shares."""
    return float(counts.diagonal().mean())


def variance(counts: np.ndarray) -> float:
    """Half the mean share of images on which two different runs differ."""
    return float(counts[~np.eye(len(counts), dtype=bool)].mean() / 2)


def bias(counts: np.ndarray) -> float:
    """What variance leaves of the error (the squared bias); below 0 by chance only."""
    return error(counts) - variance(counts)


def jackknife(parts: Sequence[np.ndarray], estimate: Callable[..., float]) -> Interval:
    """An estimate with its 95 % interval over runs, each left out in turn (Student's t with n - 1).

    Args:
        parts: matrices (n, n) of the same seeds in the same order; a seed is left out of all.
        estimate: of them.
    """
    n = len(parts[0])
    value = estimate(*parts)
    rows = [np.delete(np.arange(n), left_out) for left_out in range(n)]
    each = np.array([estimate(*(part[np.ix_(row, row)] for part in parts)) for row in rows])
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((n - 1) / n * np.square(each - each.mean()).sum())
    return Interval(value, value - float(half), value + float(half), n, "t")


def decompose(name: str, counts: np.ndarray, baseline: np.ndarray | None = None) -> Decomposition:
    """Error, squared bias and variance of a variant in points, and what they are more than the baseline's.

    Args:
        name: of the variant.
        counts: (n, n), n at least 3; the share of images on which runs i and j differ, on the diagonal on which run i
            is wrong.
        baseline: likewise, of the same seeds.
    """
    points = 100 * counts

    def less(estimate: Estimate) -> Interval | None:
        if baseline is None:
            return None
        return jackknife([points, 100 * baseline], lambda own, other: estimate(own) - estimate(other))

    return Decomposition(
        variant=name,
        n=len(counts),
        error=jackknife([points], error),
        bias=jackknife([points], bias),
        variance=jackknife([points], variance),
        bias_difference=less(bias),
        variance_difference=less(variance),
    )


def of_variants(variants: Sequence[Variant], found: Mapping[str, Any] | None) -> tuple[Decomposition, ...]:
    """The decomposition of each variant that was asked.

    Args:
        variants: of the report.
        found: what ``read`` gives.
    """
    if found is None:
        return ()
    asked = [variant for variant in variants if len(found["variants"].get(variant.name, ())) >= LEAST]
    counts = {variant.name: np.array(found["variants"][variant.name]) / found["images"] for variant in asked}
    seeds = {variant.name: [entry.seed for entry in variant.runs] for variant in asked}
    first = next((variant.name for variant in asked if variant.baseline), "")

    def other(name: str) -> np.ndarray | None:
        return counts[first] if first and name != first and seeds[name] == seeds[first] else None

    return tuple(decompose(name, own, other(name)) for name, own in counts.items())


def read(folder: Path, records: Sequence[Record]) -> tuple[Mapping[str, Any] | None, list[str]]:
    """What was measured of a report's runs, and a line where it is of others.

    Returns:
        None and nothing where nothing was measured.
    """
    file = folder / FILE
    if not file.is_file():
        return None, []
    found = json.loads(file.read_text())
    anchors = [entry.provenance.anchored for entry in records]  # of the names that runs had when they were asked
    names = {entry.id for entry in records} | {anchor.id for anchor in anchors if anchor}
    if not set(found["runs"]) <= names:
        again = f"python -m paperzoo.reports.bias_variance reports/{folder.name}"
        return None, [f"{FILE} is of other runs; {again} measures it again"]
    return found, []


def predicted(entry: Record, runs_dir: str, data_dir: str) -> tuple[Any, Any]:
    """Classes (N,) that the last weights of a run predict for the test split, and the labels (N,), as tensors.

    Raises:
        UserError: the run is not there, or is no classifier.
    """
    from paperzoo.config.schema import Paths
    from paperzoo.evaluation import restored
    from paperzoo.runs import folders
    from paperzoo.tasks.classification import Classification
    from paperzoo.tasks.ensembles import on_split

    folder = folders.find(Path(runs_dir), entry.id)
    run = restored(entry, folder, Paths(runs_dir=runs_dir, data_dir=data_dir))
    if not isinstance(run.module, Classification):
        raise UserError(f"{entry.id}: bias and variance are of classes; {entry.config['model']['name']} has none")
    return on_split(run.module, run.data, "test", lambda batch: run.module(batch.inputs).argmax(1))


def main(path: str = "", *, runs_dir: str, data_dir: str) -> None:
    """Ask every run of a report, write what was found, and derive the pages again."""
    import torch

    from paperzoo import cards
    from paperzoo.reports import record_sources, write
    from paperzoo.reports.page import write_index
    from paperzoo.tasks.diversity import disagreement

    folder = record_sources.report_folder(path)
    counts: dict[str, list[list[int]]] = {}
    ids: list[str] = []
    images = 0
    for variant in write.load(folder).variants:
        if not variant.runs:
            continue
        asked = [predicted(entry, runs_dir, data_dir) for entry in variant.runs]
        ids += [entry.id for entry in variant.runs]
        images = len(asked[0][0])
        differ = disagreement(torch.stack([found for found, _ in asked])) * images
        differ += torch.tensor([int((found != labels).sum()) for found, labels in asked]).diag()
        counts[variant.name] = differ.round().int().tolist()
        print(f"{variant.name}: {len(asked)} runs asked for {images:,} images", flush=True)
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(matrix)}" for name, matrix in counts.items())
    text = f'{{"images": {images},\n"runs": {json.dumps(ids)},\n"variants": {{\n{rows}\n}}}}\n'
    write_atomically(folder / FILE, text.encode())
    write.derive(folder, folder)
    if folder.resolve().parent == cards.REPORTS:
        write_index(folder.parent)


if __name__ == "__main__":
    from paperzoo import verbs

    defaults = {"runs_dir": os.environ.get("RUNS_DIR", "runs"), "data_dir": os.environ.get("DATA_DIR", "data")}
    verbs.run(main, __doc__, positional=1, defaults=defaults)
