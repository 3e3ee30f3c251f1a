"""One row of a report that is checked wherever its data is: the losses of its first steps in float64.

Metrics in float32 repeat bit for bit only on the processor that they were measured on; three steps in float64 agree to
1e-7 on any. ``golden.yaml`` in the report's folder holds them.
"""

import csv
import math
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

from paperzoo.config.schema import Config, Paths
from paperzoo.errors import UserError
from paperzoo.reports.model import Report
from paperzoo.reproduction import ONE_DEVICE, as_recorded
from paperzoo.runs.record import Record, write_atomically

FILE = "golden.yaml"
TOLERANCE = 1e-7  # relative; a small MobileNet amplifies a rounding to 2e-9 in three steps
HEAD = "# Losses of the first steps in float64; written by python -m paperzoo.reports.anchor\n"
TRAINER = {
    **ONE_DEVICE, "name": "cpu", "accelerator": "cpu",
    "precision": "64-true", "max_epochs": 1, "max_steps": 3, "log_every_n_steps": 1,
}  # fmt: skip
TESTED = 50  # images, which say nothing here


class GoldenRow(BaseModel):
    """A variant, a seed, and the losses of its first steps on one process."""

    model_config = ConfigDict(extra="forbid")

    row: str
    seed: int
    losses: list[float]


def cheapest(report: Report) -> tuple[str, Record]:
    """The variant whose run took the shortest, and that run."""
    runs = [(variant.name, entry) for variant in report.variants for entry in variant.runs]
    return min(runs, key=lambda run: (run[1].wall_seconds, run[0], run[1].seed))


def losses(entry: Record, data_dir: str) -> list[float]:
    """The losses of a recorded run's first steps, in float64 on one process."""
    with tempfile.TemporaryDirectory() as runs:
        paths = Paths(runs_dir=runs, data_dir=data_dir)
        return losses_of(as_recorded(entry, paths, trainer=TRAINER, data=fewer_tests(entry.config["data"], TESTED)))


def is_text(data: Mapping[str, Any]) -> bool:
    """Whether data is a text, of which the test split is a share."""
    return isinstance(data.get("test"), float) and data["test"] < 1


def fewer_tests(data: Mapping[str, Any], count: int) -> dict[str, Any]:
    """Options that test on so many images; none for a text and for objects, of which all is tested."""
    if data.get("test_split"):
        return {"test_split": f"test[:{count}]"}
    return {} if "test" not in data or is_text(data) else {"test": count}


def losses_of(config: Config) -> list[float]:
    """The losses of each step of a training, as the run writes them into a folder that is its own.

    Weights are drawn in float64, too: torch's normal numbers in float32 depend on the processor in their last bits.
    """
    import torch

    from paperzoo.training import train

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        entry = train(config)
    finally:
        torch.set_default_dtype(before)
    assert entry is not None
    (file,) = Path(config.paths.runs_dir).glob(f"*/{entry.identity}/{entry.attempt}/steps.csv")
    with file.open() as lines:
        return [float(line["train/loss"]) for line in csv.DictReader(lines)]


def write(folder: Path, name: str, entry: Record, data_dir: str) -> None:
    """Measure a row and write its losses into a report's folder."""
    found = GoldenRow(row=name, seed=entry.seed, losses=losses(entry, data_dir))
    write_atomically(folder / FILE, (HEAD + yaml.safe_dump(found.model_dump(), sort_keys=False)).encode())


def difference(folder: Path, report: Report, data_dir: str) -> tuple[bool, str] | None:
    """Whether a report's golden row is as it was, and the line that says it; None where the report has none."""
    if not (folder / FILE).is_file():
        return None
    golden = _read(folder / FILE)
    found = [e for v in report.variants if v.name == golden.row for e in v.runs if e.seed == golden.seed]
    where = f"{folder}: row={golden.row} seed={golden.seed}"
    if not found:
        return False, f"{where}: {FILE} names a run that the report has not"
    if place := missing(found[0].config["data"], data_dir):
        return True, f"{where}: not run, {data_dir} has no {place}; give data_dir= or DATA_DIR"
    got = losses(found[0], data_dir)
    same = len(got) == len(golden.losses) and all(
        math.isclose(a, b, rel_tol=TOLERANCE) for a, b in zip(got, golden.losses, strict=False)
    )
    if same:
        return True, f"{where}: the first {len(got)} losses in float64 are as written, within {TOLERANCE:g}"
    return False, f"{where}: the first losses in float64 were {golden.losses}, now they are {got}"


def missing(data: Mapping[str, Any], data_dir: str) -> str | None:
    """The file or folder of the data that is not there; None where it is, or where there is none to be."""
    hub = data.get("hub")
    # fashion_mnist_random_labels may be of the folder of fashion_mnist, as zalando-datasets/fashion_mnist is
    last = Path(hub).name if hub else data.get("file") or data.get("root")
    names = filter(None, (hub and data["name"], last))
    return None if any((Path(data_dir) / name).exists() for name in names) else last


def _read(path: Path) -> GoldenRow:
    try:
        return GoldenRow.model_validate(yaml.safe_load(path.read_bytes()))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: cannot be read ({str(error).splitlines()[0]})") from None
