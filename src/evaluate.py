"""Evaluate a run again: python src/evaluate.py <id> [weights=best] [split=val]."""

import sys
from pathlib import Path

from paperzoo.config import program
from paperzoo.config.program import as_overrides
from paperzoo.config.schema import Evaluation
from paperzoo.runs import folders


@program("evaluate")
def main(choice: Evaluation) -> None:
    """Evaluate as configured."""
    folders.find(Path(choice.paths.runs_dir), choice.run)  # a mistake is said before torch is imported
    from paperzoo.evaluation import evaluate

    evaluate(choice)


if __name__ == "__main__":
    sys.argv[1:] = as_overrides(sys.argv[1:])
    main()
