"""Run a record again and compare every metric, or derive a report again and compare every byte.

    python src/reproduce.py <id> [tolerance=0.02]
    python src/reproduce.py <id> diff=<id>                 what two records differ in
    python src/reproduce.py reports/<name>                 (or reports: all of them)
    python src/reproduce.py reports/<name> row=<arm> [seed=0] [tolerance=0.02]   run an arm's runs again

On the same platform and versions the comparison is bit for bit; elsewhere it is within the tolerance (relative,
0.02 unless given), and what differs is said. Exit code 0: equal, 1: not, 2: a mistake in the command.
Other options: runs_dir=runs data_dir=data (or the variables RUNS_DIR and DATA_DIR).
"""

import os
from pathlib import Path
from typing import Any

from paperzoo import verbs
from paperzoo.errors import UserError


def main(run: str = "", *, tolerance: str | None, **given: Any) -> int:
    """Reproduce or compare."""
    if not run:
        raise UserError("which run or report? python src/reproduce.py <id>; `python src/runs.py` lists the runs")
    allowed = None if tolerance is None else verbs.fraction("tolerance", tolerance)
    if Path(run).is_dir() and not (Path(run) / "run.json").is_file():
        from paperzoo.reports import reproduction as of_reports

        return of_reports.run(run, **given, tolerance=allowed)
    from paperzoo.runs import reproduction

    return reproduction.run(run, **given, tolerance=allowed)


if __name__ == "__main__":
    places = {"runs_dir": os.environ.get("RUNS_DIR", "runs"), "data_dir": os.environ.get("DATA_DIR", "data")}
    options = dict.fromkeys(("tolerance", "diff", "row", "seed"))
    verbs.run(main, __doc__, positional=1, defaults={**places, **options})
