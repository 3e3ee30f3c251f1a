"""How the shared tests try each paper: ``contract.yaml`` in its folder.

small: overrides that make it small; matters: an override that must change its loss; data: overrides of its data (those
of images unless given); golden: the losses of three steps in float64, written by ``python tests/contract/golden.py``;
tolerance: how far they are from each other on different processors, relative, where that is more than usual.
"""

from pathlib import Path
from typing import Any

import torch
import yaml
from composed import compose
from pydantic import BaseModel, ConfigDict
from torch.utils._pytree import tree_map_only

from paperzoo import cards
from paperzoo.config.schema import Config
from paperzoo.data.interface import Batch, RunData
from paperzoo.reports import golden_row
from paperzoo.runs import checkpoints, compare, folders
from paperzoo.runs.record import Record
from paperzoo.tasks.task import Task

FILE = "contract.yaml"
RUN = ["trainer=cpu", "trainer.max_epochs=1", "logger=none"]
IMAGES = ["data.limit_train=64", "data.batch_size=16", "data.validation=50", "data.test=50"]
GOLDEN = ["trainer.precision=64-true", "trainer.max_steps=3", "trainer.log_every_n_steps=1"]


class Row(BaseModel):
    """One paper's row."""

    model_config = ConfigDict(extra="forbid")

    small: list[str] = []
    data: list[str] = IMAGES
    matters: str
    golden: list[float]
    tolerance: float = golden_row.TOLERANCE


def row(paper: str) -> Row:
    """The row in a paper's folder."""
    path = cards.PAPERS / paper / FILE
    assert path.is_file(), f"{path}: every paper needs one, see tests/helpers/contract.py"
    return Row.model_validate(yaml.safe_load(path.read_text()))


def papers() -> list[str]:
    """Every paper; a test module that lists them fails where one has no row."""
    missing = [slug for slug in cards.slugs() if not (cards.PAPERS / slug / FILE).is_file()]
    assert not missing, f"{', '.join(missing)}: every paper needs a {FILE} in its folder (tests/helpers/contract.py)"
    return cards.slugs()


def configured(paper: str, *extra: str, runs: Path | None = None, of: Row | None = None) -> Config:
    """A paper's configuration in small."""
    chosen = of or row(paper)
    words = [f"model={paper}", *RUN, *chosen.data, *chosen.small, *extra]
    config: Config = compose("train", words + ([f"paths.runs_dir={runs}"] if runs else []))
    return config


def batch_of(data: RunData, dtype: torch.dtype = torch.float32) -> Batch:
    """The first training batch, its floats of a type."""
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    return tree_map_only(torch.Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, batch)


def loss_of(module: Task, batch: Batch) -> torch.Tensor:
    """A module's training loss of a batch; what is drawn (dropout, sampling) is drawn alike at each call."""
    module.running = module.make_running()
    torch.manual_seed(0)
    return sum(module.losses(batch).values())


def golden_losses(paper: str, runs: Path, of: Row | None = None) -> list[float]:
    """The losses of three steps in float64, as the run writes them."""
    return golden_row.losses_of(configured(paper, *GOLDEN, runs=runs, of=of))


def last_checkpoint(entry: Record, runs: Path) -> dict[str, Any]:
    """What a run's last checkpoint holds."""
    return checkpoints.load(folders.find(runs, entry.id) / entry.checkpoints["last"])


def demand_same(expected: Record, runs: Path, got: Record, there: Path) -> None:
    """Assert that two runs, in two folders of runs, have the same metrics and last weights, bit for bit."""
    assert compare.first_difference(expected, got) is None
    assert equal_state(last_checkpoint(expected, runs)["state_dict"], last_checkpoint(got, there)["state_dict"])


def equal_state(first: dict[str, Any], second: dict[str, Any]) -> bool:
    """Whether two state dicts are equal bit for bit."""
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)
