"""``python src/report.py``: write a report, say what it says, and publish it."""

from paperzoo.errors import UserError
from paperzoo.reports import wandb_report
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
) -> None:
    """Write the report of a sweep file; the options are the verb's.

    Raises:
        UserError: an option is not right, or the report cannot be written or published.
    """
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
