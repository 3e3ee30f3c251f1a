"""Run a sweep file here: python src/sweep.py sweeps/<question>.yaml [agents=2].

It is W&B's own format: `wandb sweep` and `wandb agent` run the same file. Stopped or killed, it goes on with the same
command; a second machine joins with the same storage=postgresql://user@host/database.
Options: agents=1 storage=sqlite:///runs/sweeps/<question>.db max_failures=5 retry_failed=false runs_dir=runs
warm=true: runs are forked from a process that has imported torch already; false starts an interpreter for each.
"""

import os

from paperzoo import verbs
from paperzoo.errors import UserError


def main(
    path: str = "", *, agents: str, storage: str | None, max_failures: str, retry_failed: str, runs_dir: str, warm: str
) -> int:
    """Run what is left of it."""
    if not path:
        raise UserError("which sweep? python src/sweep.py sweeps/<question>.yaml")
    from paperzoo.sweeps.local import run

    return run(
        path,
        agents=verbs.whole_number("agents", agents, minimum=1),
        storage=storage,
        runs_dir=runs_dir,
        max_failures=verbs.whole_number("max_failures", max_failures, minimum=1),
        retry_failed=verbs.boolean("retry_failed", retry_failed),
        warm=verbs.boolean("warm", warm),
    )


if __name__ == "__main__":
    defaults = {"agents": "1", "storage": None, "max_failures": "5", "retry_failed": "false", "warm": "true"}
    verbs.run(main, __doc__, positional=1, defaults={**defaults, "runs_dir": os.environ.get("RUNS_DIR", "runs")})
