"""Write the report of a sweep: python src/report.py sweeps/<question>.yaml.

reports/<question>/ then holds index.html, report.md, runs.csv, figures, and the records that all of it follows from.
    source=local          the runs in runs_dir (runs, or the variable RUNS_DIR)
    source=<folder>       runs logged elsewhere, by W&B without a network: all .wandb files below the folder
    source=wandb sweep=<entity>/<project>/<id>       the runs of a sweep on W&B
    publish=wandb project=<entity>/<project>         put the report on W&B, too
Other options: out=reports, and storage= as src/sweep.py was given it.
"""

import os

from paperzoo import verbs
from paperzoo.errors import UserError


def main(
    path: str = "",
    *,
    source: str,
    runs_dir: str,
    out: str,
    storage: str | None,
    sweep: str | None,
    publish: str | None,
    project: str | None,
) -> None:
    """Write it, and say what it says."""
    if not path:
        raise UserError("which sweep? python src/report.py sweeps/<question>.yaml")
    if publish not in (None, "wandb"):
        raise UserError(f"publish={publish}: must be wandb")
    from paperzoo.reports import publishing
    from paperzoo.reports.write import make

    if publish:
        publishing.check(project)
    written = make(path, source=source, runs_dir=runs_dir, out=out, storage=storage, wandb_sweep=sweep)
    print(written.report.answer)
    for line in written.report.problems:
        print(f"note: {line}")
    print(f"{len(written.files)} files in {written.files[-1].parent}; open {written.files[-1]}")
    if publish:
        print(publishing.publish(written.report, str(project)))


if __name__ == "__main__":
    defaults = {"source": "local", "runs_dir": os.environ.get("RUNS_DIR", "runs"), "out": "reports", "storage": None}
    verbs.run(main, __doc__, positional=1, defaults={**defaults, "sweep": None, "publish": None, "project": None})
