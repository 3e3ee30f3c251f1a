"""Write the report of a sweep: python src/report.py sweeps/<question>.yaml.

reports/<question>/ then holds index.html, report.md, runs.csv, figures, and the records that all of it follows from.
    source=local          the runs in runs_dir (runs, or the variable RUNS_DIR)
    source=<folder>       runs logged elsewhere, by W&B without a network: all .wandb files below the folder
    source=reports/<question>                        a report's own records: write it again
    source=wandb sweep=<entity>/<project>/<id>       the runs of a sweep on W&B
    publish=wandb project=<entity>/<project>         put the report on W&B, too
    plan=0.5 [pilot=4]   how many seeds find a difference of 0.5 (points, where the metric is in %), from the spread
                         of these runs or of a pilot of 4 seeds that is run first; writes sweeps/<question>_planned.yaml
Other options: out=reports, and storage= as src/sweep.py was given it.
"""

import os
from typing import Any

from paperzoo import verbs
from paperzoo.errors import UserError


def main(path: str = "", **options: Any) -> None:
    """Write it, and say what it says."""
    if not path:
        raise UserError("which sweep? python src/report.py sweeps/<question>.yaml")
    from paperzoo.reports import reporting

    reporting.run(path, **options)


if __name__ == "__main__":
    defaults = {"source": "local", "runs_dir": os.environ.get("RUNS_DIR", "runs"), "out": "reports", "storage": None}
    verbs.run(
        main,
        __doc__,
        positional=1,
        defaults={**defaults, "sweep": None, "publish": None, "project": None, "plan": None, "pilot": None},
    )
