"""List the runs.

    python src/runs.py [model=scnet] [status=finished] [sort=test] [limit=20] [form=csv] [runs_dir=runs]

status is running, finished, failed or interrupted; sort is started (newest first), test (best first) or time (longest
first); form is table or csv.
"""

import os
from pathlib import Path
from typing import get_args

from paperzoo import verbs
from paperzoo.errors import UserError
from paperzoo.runs import listing
from paperzoo.runs.record import Status


def main(runs_dir: str, model: str | None, status: str | None, limit: str, sort: str, form: str) -> None:
    """Print the table."""
    allowed = {"status": (status, get_args(Status)), "sort": (sort, listing.ORDERS), "form": (form, listing.FORMATS)}
    for name, (given, words) in allowed.items():
        if given not in (None, *words):
            raise UserError(f"{name}={given}: must be one of {', '.join(words)}")
    number = verbs.whole_number("limit", limit, minimum=1)
    listing.show(Path(runs_dir), model=model, status=status, limit=number, sort=sort, form=form)


if __name__ == "__main__":
    options = {"runs_dir": os.environ.get("RUNS_DIR", "runs"), "model": None, "status": None}
    verbs.run(main, __doc__, defaults={**options, "limit": "20", "sort": "started", "form": "table"})
