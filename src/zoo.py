"""The papers there are, and what one claims, is made of and was measured to do.

python src/zoo.py                                    all papers
python src/zoo.py scnet                              one paper's card
python src/zoo.py page=guidelines                    ShuffleNet V2's guidelines, counted and measured here (20 seconds)
python src/zoo.py page=arithmetic [network=scnet50]  what convolutions cost and see: formulas, or a network's
python src/zoo.py page=schedule scheduler=cosine     a learning-rate schedule, printed or drawn (out=schedule.png), with
                                                     keys of its own: scheduler=warmup_cosine scheduler.cycle_epochs=3
"""

from typing import Any

from paperzoo import verbs, zoo
from paperzoo.errors import UserError


def main(paper: str | None = None, page: str | None = None, **options: Any) -> None:
    """Print the table of papers, one card, or a page."""
    if page is not None:
        if paper is not None:
            raise UserError(f"{paper} page={page}: a paper's card or a page, one of the two")
        zoo.show_page(page, **options)
    elif paper is None:
        zoo.show_all()
    else:
        zoo.show(paper)


if __name__ == "__main__":
    verbs.run(main, __doc__, positional=1, defaults={"page": None}, more_with="page")
