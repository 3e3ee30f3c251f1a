"""Write the golden losses of papers into their contract.yaml: python tests/contract/golden.py [paper ...].

For a new paper, or after a change that is meant to change numbers (say which in the commit). Weights moved by some
roundings must give the same losses within the row's tolerance: then they are the same on any processor.
"""

import re
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

import torch
import yaml
from contract import FILE, Row, golden_losses

from paperzoo import cards
from paperzoo.tasks.task import Task

MOVED = 1e-14  # relative; 45 roundings of float64


def main(papers: list[str]) -> None:
    """Measure and write."""
    for paper in papers or cards.slugs():
        path = cards.PAPERS / paper / FILE
        text = re.sub(r"^golden:.*\n?", "", path.read_text(), flags=re.MULTILINE)
        content = Row.model_validate({**yaml.safe_load(text), "golden": []})
        losses, others = measured(paper, content), moved(paper, content)
        path.write_text(f"{text}golden: [{', '.join(map(repr, losses))}]\n")
        change = max(abs(a - b) / abs(a) for a, b in zip(losses, others, strict=True))
        large = "" if change < content.tolerance else f": MORE than its tolerance {content.tolerance:g}"
        print(f"{paper:20s} weights moved by {MOVED:g} change the losses by {change:.1e}{large}")


def measured(paper: str, content: Row) -> list[float]:
    """The losses."""
    with tempfile.TemporaryDirectory() as runs:
        return golden_losses(paper, Path(runs), content)


def moved(paper: str, content: Row) -> list[float]:
    """The losses of slightly different weights."""
    begin = Task.on_train_start

    def on_train_start(self: Task) -> None:
        begin(self)
        chance = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in self.parameters():
                weight.mul_(1 + MOVED * torch.randn(weight.shape, generator=chance, dtype=torch.float64))

    with patch.object(Task, "on_train_start", on_train_start):
        return measured(paper, content)


if __name__ == "__main__":
    main(sys.argv[1:])
