"""Evaluate a run again: python src/evaluate.py <id> [weights=best] [split=val] [predictions=true].

Published weights: python src/evaluate.py model=scnet model.network=scnet50 model.checkpoint=<file> data=imagenet
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from paperzoo.config import program
from paperzoo.config.program import as_overrides
from paperzoo.verbs import boolean

if TYPE_CHECKING:
    from paperzoo.config.schema import Config, Evaluation


@program("evaluate")
def main(choice: "Evaluation") -> None:
    """Evaluate as configured."""
    from paperzoo.runs import folders

    if not choice.run.endswith(".parquet"):
        folders.find(Path(choice.paths.runs_dir), choice.run)  # a mistake is said before torch is imported
    from paperzoo.evaluation import evaluate

    evaluate(choice)


@program("train", own={"predictions": "false", "out": "predictions"})
def published(config: "Config", predictions: str, out: str) -> None:
    """Evaluate published weights, configured as a training run that trains nothing."""
    from paperzoo.inference.published import evaluate

    evaluate(config, out if boolean("predictions", predictions) else None)


if __name__ == "__main__":
    sys.argv[1:] = as_overrides(sys.argv[1:])
    (published if any(word.startswith("model=") for word in sys.argv[1:]) else main)()
