"""Where Paperzoo's own files lie: beside the package in a checkout, within it where it is installed."""

import re
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CHECKOUT = PACKAGE.parents[1]  # where there is one
INSTALLED = (PACKAGE / "conf").is_dir()
CONF = (PACKAGE if INSTALLED else CHECKOUT) / "conf"
COMMANDS = PACKAGE / "_commands" if INSTALLED else PACKAGE.parent  # train.py and the others


def as_called(text: str) -> str:
    """A text that names commands, as they are called here: ``paperzoo runs`` where the package is installed."""
    return re.sub(r"python src/(\w+)\.py", r"paperzoo \1", text) if INSTALLED else text


def print_version() -> None:
    """For ``--version``."""
    from importlib.metadata import version  # takes 30 ms to import

    print(f"Paperzoo {version('paperzoo')}")
