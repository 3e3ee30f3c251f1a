"""Run a record again and compare every metric, or derive a report again and compare every byte.

    python src/reproduce.py <id> [tolerance=...] [root=...]    root: where its folder of images lies now
    python src/reproduce.py <id> diff=<id>                 what two records differ in
    python src/reproduce.py reports/<name>                 (or reports: all of them)
    python src/reproduce.py reports/<name> row=<variant> [seed=0] [tolerance=...]   run a variant's runs again

The comparison is bit for bit, and what differs of machine, versions and numeric code is said. On another processor
the last bits of float32 differ: tolerance=0.02 compares within 2 % (relative). Exit code 0: equal, or within the
tolerance that was given; 1: not; 2: a mistake in the command.
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
        from paperzoo.reports import rederive as of_reports

        return of_reports.run(run, **given, tolerance=allowed)
    from paperzoo import reproduction

    return reproduction.run(run, **given, tolerance=allowed)


if __name__ == "__main__":
    places = {"runs_dir": os.environ.get("RUNS_DIR", "runs"), "data_dir": os.environ.get("DATA_DIR", "data")}
    options = dict.fromkeys(("tolerance", "diff", "row", "seed", "root"))
    verbs.run(main, __doc__, positional=1, defaults={**places, **options}, of_run=True)
