"""The papers there are, and what one claims, is made of and was measured to do.

python src/zoo.py                   all papers
python src/zoo.py scnet             one paper's card
python src/zoo.py page=guidelines   ShuffleNet V2's guidelines, counted and measured on this machine (20 seconds)
"""

from paperzoo import verbs, zoo
from paperzoo.errors import UserError


def main(paper: str | None = None, page: str | None = None) -> None:
    """Print the table of papers, one card, or a page."""
    if page is not None:
        if paper is not None:
            raise UserError(f"{paper} page={page}: a paper's card or a page, one of the two")
        zoo.show_page(page)
    elif paper is None:
        zoo.show_all()
    else:
        zoo.show(paper)


if __name__ == "__main__":
    verbs.run(main, __doc__, positional=1, defaults={"page": None})
