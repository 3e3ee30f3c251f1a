"""The papers there are, and what one claims, is made of and was measured to do.

python src/zoo.py            all papers
python src/zoo.py scnet      one paper's card
"""

from paperzoo import verbs, zoo


def main(paper: str | None = None) -> None:
    """Print the table of papers, or one card."""
    if paper is None:
        zoo.show_all()
    else:
        zoo.show(paper)


if __name__ == "__main__":
    verbs.run(main, __doc__, positional=1, defaults={})
