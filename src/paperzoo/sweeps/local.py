"""``python src/sweep.py``: a sweep file run here, without an account."""

import signal
import threading
from pathlib import Path
from typing import Any

from paperzoo.errors import Interrupted, UserError
from paperzoo.sweeps import lint
from paperzoo.sweeps.agents import Agents
from paperzoo.sweeps.progress import SweepTable
from paperzoo.sweeps.storage import Plan


def run(path: str, *, agents: int, storage: str | None, runs_dir: str, max_failures: int, retry_failed: bool,
        warm: bool = True) -> int:  # fmt: skip
    """Run what is left of a sweep. Returns 0 if all is done, 1 if a run failed.

    Raises:
        UserError: the file or the storage is not right.
        Interrupted: a signal came; the plan is consistent, and the same command goes on.
    """
    sweep = lint.check(path)
    name = Path(path).stem
    plan = Plan(sweep, name, storage or f"sqlite:///{Path(runs_dir) / 'sweeps' / name}.db")
    if retry_failed:
        plan.retry_failed()
    try:
        workers = Agents(plan, agents, Path(runs_dir), max_failures, warm=warm)
    except OSError as error:
        raise UserError(f"runs_dir={runs_dir}: cannot write to it ({error.strerror}); choose another") from None
    caught = _listen(workers)
    with SweepTable(plan, workers) as table:
        workers.run(table.show)
    print(table.summary())
    if table.live or not workers.failures:  # elsewhere each failure of now was a line already
        for line in table.failures():
            print(line)
    if caught:
        raise Interrupted(signal.Signals(caught[0]))
    failed = [trial for trial in plan.counted().values() if trial.user_attrs.get("outcome") == "failed"]
    if workers.failures >= max_failures:
        print(
            f"stopped: {workers.failures} runs failed (max_failures={max_failures}); retry_failed=true tries them again"
        )
    elif failed:
        print("once its reason is gone, retry_failed=true runs what failed again")
    return 1 if failed else 0


def _listen(workers: Agents) -> list[int]:
    """SIGINT and SIGTERM end the agents softly; which came is in the list."""
    caught: list[int] = []

    def stop(number: int, _: Any) -> None:
        caught.append(number)
        workers.stop()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)
    return caught
