"""The live table of a sweep: what runs, what is done, what failed, what is best, how long it will take."""

import time

from optuna.trial import FrozenTrial
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from paperzoo.sweeps.agents import Agents
from paperzoo.sweeps.command import label
from paperzoo.sweeps.search import cell_of
from paperzoo.sweeps.specification import Cell
from paperzoo.sweeps.storage import Plan

SHOWN = 8  # of the runs that have ended
EVERY = 2.0  # seconds between two readings of the plan
STATES = {
    "COMPLETE": "done", "PRUNED": "stopped early", "RUNNING": "running", "WAITING": "waiting", "FAIL": "failed",
}  # fmt: skip
INTERRUPTED = "interrupted"  # its agent stopped, and another start takes it up


def state_of(trial: FrozenTrial) -> str:
    """A trial's state in words."""
    lost = trial.state.name == "FAIL" and trial.user_attrs.get("outcome") == "lost"
    return INTERRUPTED if lost else STATES[trial.state.name]


class SweepTable:
    """On a terminal a table that moves; elsewhere a line for each run that ends."""

    def __init__(self, plan: Plan, agents: Agents) -> None:
        self.plan, self.agents = plan, agents
        self.console = Console()
        self.live = Live(console=self.console, refresh_per_second=4) if self.console.is_terminal else None
        self.seen: set[int] | None = None
        self.read = -EVERY

    def __enter__(self) -> "SweepTable":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.read = -EVERY
        self.show()
        if self.live:
            self.live.stop()

    def show(self) -> None:
        """Draw what is true by now."""
        if time.monotonic() - self.read < EVERY:
            return
        self.read = time.monotonic()
        ended = [trial for trial in self.plan.counted().values() if trial.state.is_finished()]
        if self.live:
            self.live.update(Group(self._table(ended), Text(self.summary())))
            return
        for trial in ended:
            if self.seen is not None and trial.number not in self.seen:
                self.console.print(self._line(trial), soft_wrap=True, highlight=False, markup=False)
        self.seen = {trial.number for trial in ended}

    def failures(self) -> list[str]:
        """A line with the reason for each run that failed."""
        counted = self.plan.counted().values()
        return [self._line(trial) for trial in counted if state_of(trial) == "failed"]

    def summary(self) -> str:
        """One line: counts, the best, the time left."""
        counted = list(self.plan.counted().values())
        states = [state_of(trial) for trial in counted]
        done = states.count("done") + states.count("stopped early")
        parts = [f"{done} of {self.plan.planned or 'as many as you like'} done"]
        others = ("running", "waiting", INTERRUPTED, "failed", "stopped early")
        parts += [f"{states.count(state)} {state}" for state in others if states.count(state)]
        best = self._best(counted)
        return ", ".join(part for part in (*parts, best, self._time_left(done, states.count("failed"))) if part)

    def _best(self, counted: list[FrozenTrial]) -> str:
        metric = self.plan.sweep.metric
        values = [
            (trial.value, trial.user_attrs.get("run", "?"))
            for trial in counted
            if trial.state.name == "COMPLETE" and trial.value is not None
        ]
        if not metric or not values:
            return ""
        choose = max if metric.goal == "maximize" else min
        value, run = choose(values, key=lambda pair: pair[0])
        return f"best {metric.name} {value:.4g} ({run})"

    def _time_left(self, done: int, failed: int) -> str:
        lasted = [
            trial.duration.total_seconds()
            for trial in self.plan.counted().values()
            if trial.state.name == "COMPLETE" and trial.duration
        ]
        if not lasted or not self.plan.planned:
            return ""
        left = (self.plan.planned - done - failed) * sum(lasted) / len(lasted) / self.agents.count
        return f"about {left / 60:.0f} min left" if left >= 90 else f"about {max(left, 0):.0f} s left"

    def _table(self, ended: list[FrozenTrial]) -> Table:
        table = Table(title=self.plan.sweep.name, title_justify="left", box=None, pad_edge=False)
        metric = self.plan.sweep.metric.name if self.plan.sweep.metric else ""
        for heading in ("run", "state", metric, "epoch", "time"):
            table.add_column(heading, justify="left" if heading in ("run", "state") else "right")
        for trial in sorted(ended, key=lambda trial: str(trial.datetime_complete))[-SHOWN:]:
            table.add_row(*self._cells(trial))
        for progress in list(self.agents.running.values()):
            seconds = time.monotonic() - progress.started
            value = "" if progress.metric is None else f"{progress.metric:.4g}"
            table.add_row(self._label(progress.claim.cell), "running", value, str(progress.epoch), f"{seconds:.0f} s")
        return table

    def _cells(self, trial: FrozenTrial) -> tuple[str, ...]:
        state = state_of(trial)
        value = f"{trial.value:.4g}" if trial.value is not None and trial.state.name == "COMPLETE" else ""
        seconds = f"{trial.duration.total_seconds():.0f} s" if trial.duration else ""
        cell = self.plan.cells.get(trial.user_attrs["key"]) or cell_of(self.plan.sweep, trial.params)
        return self._label(cell), state, value, str(trial.last_step or ""), seconds

    def _line(self, trial: FrozenTrial) -> str:
        name, state, value, _, seconds = self._cells(trial)
        metric = f" {self.plan.sweep.metric.name} {value}" if self.plan.sweep.metric and value else ""
        reason = f": {trial.user_attrs.get('reason', '')}" if state == "failed" else ""
        return f"{state:8} {name}{metric} {seconds}{reason}"

    def _label(self, cell: Cell) -> str:
        varying = [key for key in cell if key == "seed" or key in self.plan.sweep.varying]
        return label({key: cell[key] for key in varying})
