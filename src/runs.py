"""List the runs, newest first.

    python src/runs.py [model=scnet] [status=finished] [limit=20] [runs_dir=runs]

status is running, finished, failed or interrupted.
"""

import os
from pathlib import Path
from typing import get_args

from paperzoo import verbs
from paperzoo.errors import UserError
from paperzoo.runs import listing
from paperzoo.runs.record import Status


def main(runs_dir: str, model: str | None, status: str | None, limit: str) -> None:
    """Print the table."""
    if status not in (None, *get_args(Status)):
        raise UserError(f"status={status}: must be one of {', '.join(get_args(Status))}")
    listing.show(Path(runs_dir), model=model, status=status, limit=verbs.whole_number("limit", limit, minimum=1))


if __name__ == "__main__":
    runs_dir = os.environ.get("RUNS_DIR", "runs")
    verbs.run(main, __doc__, defaults={"runs_dir": runs_dir, "model": None, "status": None, "limit": "20"})
