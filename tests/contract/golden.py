"""Write the golden losses of papers into their contract.yaml: python tests/contract/golden.py [paper ...].

For a new paper, or after a change that is meant to change numbers (say which in the commit).
"""

import re
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helpers"))

from contract import FILE, Row, golden_losses

from paperzoo import cards


def main(papers: list[str]) -> None:
    """Measure and write."""
    import yaml

    for paper in papers or cards.slugs():
        path = cards.PAPERS / paper / FILE
        text = re.sub(r"^golden:.*\n?", "", path.read_text(), flags=re.MULTILINE)
        content = Row.model_validate({**yaml.safe_load(text), "golden": []})
        with tempfile.TemporaryDirectory() as runs:
            losses = golden_losses(paper, Path(runs), content)
        path.write_text(f"{text}golden: [{', '.join(map(repr, losses))}]\n")


if __name__ == "__main__":
    main(sys.argv[1:])
