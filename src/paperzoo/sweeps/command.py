"""The command line of one run, as W&B's agent builds it."""

import os
import re
from pathlib import Path
from typing import Any

from paperzoo.places import COMMANDS, INSTALLED
from paperzoo.sweeps.specification import Cell, Sweep

ENV = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


def words(cell: Cell) -> list[str]:
    """``key=value`` for every parameter; W&B formats values as Python does, so that null becomes None."""
    return [f"{key}={value}" for key, value in cell.items()]


def command(sweep: Sweep, cell: Cell, *, interpreter: str = "python", extra: list[str] | None = None) -> list[str]:
    """The words of the command; ``extra`` come after the parameters."""
    given = words(cell)
    expansions: dict[str, list[str]] = {
        "${env}": ["/usr/bin/env"],
        "${interpreter}": [interpreter],
        "${program}": [program_of(sweep)],
        "${args_no_hyphens}": given,
        "${args}": [f"--{word}" for word in given],
        "${args_append_hydra}": [f"+{word}" for word in given],
        "${args_override_hydra}": [f"++{word}" for word in given],
    }
    parts = [str(part) for part in sweep.command]
    line = [word for part in parts for word in expansions.get(part, [_with_environment(part)])]
    return line + (extra or [])


def program_of(sweep: Sweep) -> str:
    """What is run: ``src/train.py`` is the package's own where it is installed and there is no such file here."""
    own = COMMANDS / Path(sweep.program).name
    is_ours = INSTALLED and sweep.program == f"src/{own.name}" and own.is_file() and not Path(sweep.program).exists()
    return str(own) if is_ours else sweep.program


def _with_environment(part: str) -> str:
    return ENV.sub(lambda match: os.environ.get(match[1], match[1]), part)


def hydra_words(sweep: Sweep, cell: Cell) -> list[str]:
    """What of the command Hydra sees: the parameters, and fixed words that look like overrides."""
    line = [str(word) for word in command(sweep, cell, interpreter="python")]
    program = program_of(sweep)
    return line[line.index(program) + 1 :] if program in line else [word for word in line if "=" in word]


def label(variant: dict[str, Any]) -> str:
    """A variant in words, for tables and figures."""
    return " ".join(words(variant)) or "all runs"
