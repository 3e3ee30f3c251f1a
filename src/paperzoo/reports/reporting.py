"""``python src/report.py``: write a report, say what it says, and publish it."""

import math

from paperzoo import verbs
from paperzoo.errors import UserError
from paperzoo.reports import plan_files, wandb_report
from paperzoo.reports.write import make


def run(
    path: str,
    *,
    source: str,
    runs_dir: str,
    out: str,
    storage: str | None,
    sweep: str | None,
    publish: str | None,
    project: str | None,
    plan: str | None = None,
    pilot: str | None = None,
) -> None:
    """Write the report of a sweep file, or plan a sweep that decides; the options are the command's.

    Raises:
        UserError: an option is not right, or the report cannot be written or published.
    """
    if pilot is not None and plan is None:
        raise UserError(f"pilot={pilot}: goes with plan=<smallest difference to be found>")
    if plan is not None:
        seeds = None if pilot is None else verbs.whole_number("pilot", pilot, minimum=3)
        plan_files.make(path, _effect(plan), pilot=seeds, source=source, runs_dir=runs_dir, out=out, storage=storage,
                        wandb_sweep=sweep)  # fmt: skip
        return
    if publish not in (None, "wandb"):
        raise UserError(f"publish={publish}: must be wandb")
    if publish:
        wandb_report.check(project)
    written = make(path, source=source, runs_dir=runs_dir, out=out, storage=storage, wandb_sweep=sweep)
    print(written.report.answer)
    for line in written.report.problems:
        print(f"note: {line}")
    print(f"{len(written.files)} files in {written.files[-1].parent}; open {written.files[-1]}")
    if publish:
        print(wandb_report.publish(written.report, str(project)))


def _effect(text: str) -> float:
    """The number of ``plan=``."""
    try:
        effect = float(text)
    except ValueError:
        effect = 0.0
    if not 0 < effect < math.inf:
        raise UserError(f"plan={text}: must be a difference above 0 in the metric's unit, such as plan=0.5 (points)")
    return effect
