"""Run a record again and compare every metric, or say what two records differ in.

    python src/reproduce.py <id> [tolerance=0.02]
    python src/reproduce.py <id> diff=<id>

On the same platform and versions the comparison is bit for bit; elsewhere it is within the tolerance (relative,
0.02 unless given), and what differs is said. Exit code 0: equal, 1: not, 2: a mistake in the command.
Other options: runs_dir=runs data_dir=data (or the variables RUNS_DIR and DATA_DIR).
"""

import os

from paperzoo import verbs
from paperzoo.errors import UserError
from paperzoo.runs import reproduction


def main(run: str = "", *, runs_dir: str, data_dir: str, tolerance: str | None, diff: str | None) -> int:
    """Reproduce or compare."""
    if not run:
        raise UserError("which run? python src/reproduce.py <id>; `python src/runs.py` lists them")
    if diff == "":
        raise UserError("diff=: which other run? python src/reproduce.py <id> diff=<id>")
    if diff:
        return reproduction.differences(run, diff, runs_dir)
    return reproduction.reproduce(
        run, runs_dir, data_dir, verbs.fraction("tolerance", tolerance) if tolerance else None
    )


if __name__ == "__main__":
    defaults = {
        "runs_dir": os.environ.get("RUNS_DIR", "runs"),
        "data_dir": os.environ.get("DATA_DIR", "data"),
        "tolerance": None,
        "diff": None,
    }
    verbs.run(main, __doc__, positional=1, defaults=defaults)
