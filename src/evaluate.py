"""Evaluate a run again: python src/evaluate.py run=<id> [weights=best] [split=val]."""

from paperzoo.config import program
from paperzoo.config.schema import Evaluation


@program("evaluate")
def main(choice: Evaluation) -> None:
    """Evaluate as configured."""
    from paperzoo.evaluation import evaluate

    evaluate(choice)


if __name__ == "__main__":
    main()
