"""Local agents: each takes runs from the plan, one after the other, and starts them as W&B's agent would."""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from paperzoo.errors import UserError
from paperzoo.runs import record
from paperzoo.runs.record import Record, Segment
from paperzoo.sweeps import tied
from paperzoo.sweeps.command import command, program_of
from paperzoo.sweeps.specification import Sweep
from paperzoo.sweeps.storage import Claim, Plan
from paperzoo.sweeps.warm import Started, Warm, possible

LOOK = 0.5  # seconds between two looks at a run
BEAT = 15.0  # seconds between two signs of life
GRACE = 30.0  # seconds for a run to save its state after SIGTERM, as W&B's agent gives
EXTRA = ["resume=auto", "repeat=false"]  # go on with what was interrupted, leave what has finished
FOLDER_FILE = "PAPERZOO_TELL"


@dataclass
class Progress:
    """What the table shows of a run that this process has."""

    claim: Claim
    started: float = field(default_factory=time.monotonic)
    epoch: int = 0
    metric: float | None = None


class Agents:
    """Runs a sweep to its end with some agents in threads of this process, each run a process of its own.

    Args:
        plan: which runs there are.
        count: how many run side by side; they share the processor's threads.
        runs_dir: of the runs; logs, and where each run is, go below ``sweeps/`` in it.
        max_failures: so many failed runs, and no new one is begun.
        warm: fork runs from a process that has imported everything, where that is possible.
    """

    def __init__(self, plan: Plan, count: int, runs_dir: Path, max_failures: int, *, warm: bool = True) -> None:
        self.plan, self.count, self.max_failures = plan, count, max_failures
        self.runs_dir = runs_dir.resolve()
        self.folder = self.runs_dir / "sweeps" / plan.name
        self.stopping = threading.Event()
        self.turn = threading.Lock()
        self.failures = 0
        self.running: dict[str, Progress] = {}
        self.errors: list[BaseException] = []
        self.started = time.monotonic()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.warm: Warm | None = None
        self.may_fork = warm and possible(program_of(plan.sweep))

    def run(self, show: Callable[[], None]) -> None:
        """Work until nothing is left; ``show`` is called in between."""
        try:
            self._run(show)
        finally:
            if self.warm:
                self.warm.close()

    def _run(self, show: Callable[[], None]) -> None:
        if self.may_fork and not self._is_done():
            self.warm = Warm(self._environment(), self.folder / "warm.log")
        threads = [threading.Thread(target=self._work, name=f"agent {number}") for number in range(self.count)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            show()
            for thread in threads:
                thread.join(LOOK / len(threads))
        show()
        if self.errors:
            raise self.errors[0]

    def stop(self) -> None:
        """End soon: every run saves its state, the plan keeps them for whoever goes on."""
        self.stopping.set()

    def _work(self) -> None:
        try:
            while not self.stopping.is_set() and self.failures < self.max_failures:
                with self.turn:  # one after the other, agents of one process do not get in each other's way
                    self.plan.settle()
                    claim = self.plan.claim()
                if claim:
                    self._do(claim)
                elif not self._others_are_busy():
                    return
                else:
                    self.stopping.wait(2 * LOOK)
        except BaseException as error:
            self.errors.append(error)
            self.stop()

    def _others_are_busy(self) -> bool:
        """Whether a run that another agent does may still be left to us."""
        return any(not trial.state.is_finished() for trial in self.plan.counted().values())

    def _is_done(self) -> bool:
        """Whether nothing is left of a grid."""
        counted = self.plan.counted()
        return bool(self.plan.cells) and all(
            key in counted and counted[key].state.is_finished() and counted[key].user_attrs.get("outcome") != "lost"
            for key in self.plan.cells
        )

    def _do(self, claim: Claim) -> None:
        self.running[claim.key] = Progress(claim)
        try:
            while self.warm and not self.warm.ready.wait(LOOK):
                if self.stopping.is_set():
                    self.plan.release(claim)
                    return
            self._end(claim, *self._watch(claim, self._start(claim)))
        finally:
            self.running.pop(claim.key, None)

    def _file(self, claim: Claim, suffix: str) -> Path:
        """A file of a run; its number is that of the first trial, so that a take-over finds it."""
        first = next(trial.number for trial in self.plan.trials() if trial.user_attrs.get("key") == claim.key)
        return self.folder / f"{first}{suffix}"

    def _environment(self) -> dict[str, str]:
        """What all runs have in common."""
        environment = dict(os.environ) | {"RUNS_DIR": str(self.runs_dir)}
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // self.count)))
        return environment

    def _start(self, claim: Claim) -> Started:
        run_file = self._file(claim, ".run")
        self._wait_for_orphan(claim, run_file)
        run_file.unlink(missing_ok=True)  # a former run may have been another one, of other code say
        environment = self._environment() | {FOLDER_FILE: str(run_file)}
        line = command(self.plan.sweep, claim.cell, interpreter=sys.executable, extra=EXTRA)
        python = [word for word in line if word != "/usr/bin/env"]
        if self.warm and python[:2] == [sys.executable, program_of(self.plan.sweep)]:
            forked = self.warm.start(python[1:], environment, self._file(claim, ".log"))
            if forked is not None:
                return forked
        with self._file(claim, ".log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-S", tied.__file__, str(os.getpid()), *line],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C is for us, and we tell them
            )

    def _wait_for_orphan(self, claim: Claim, run_file: Path) -> None:
        """A dead agent's run may still be saving its state; SIGTERM asks it to, if it does not know yet.

        On another host nothing can be asked: until the run has been silent for long, it is taken to be alive.
        """
        asked = beat = time.monotonic()
        while (segment := _alive(run_file)) and not self.stopping.is_set():
            if record.is_here(segment):
                _signal(segment.pid, signal.SIGTERM if time.monotonic() - asked < GRACE else signal.SIGKILL)
            self.stopping.wait(LOOK)
            beat = self._beat(claim, beat)

    def _beat(self, claim: Claim, last: float) -> float:
        """Give a sign of life if it is due. Returns when the last was."""
        if time.monotonic() - last < BEAT:
            return last
        self.plan.beat(claim)
        return time.monotonic()

    def _watch(self, claim: Claim, process: Started) -> tuple[int, bool, Record | None]:
        """Wait for a run. Returns its exit code, whether it was stopped early, and its record."""
        run_file, beat, pruned, asked = self._file(claim, ".run"), time.monotonic(), False, None
        while process.poll() is None:
            self.stopping.wait(LOOK) if asked is None else time.sleep(LOOK)
            entry = _record(run_file)
            if entry and not pruned and self._is_hopeless(claim, entry):
                pruned = True
            if asked is None and (pruned or self.stopping.is_set()):
                process.send_signal(signal.SIGTERM)
                asked = time.monotonic()
            if asked and time.monotonic() - asked > GRACE:
                process.kill()
            beat = self._beat(claim, beat)
        return process.returncode or 0, pruned, _record(run_file)

    def _is_hopeless(self, claim: Claim, entry: Record) -> bool:
        """Tell Optuna of new epochs; whether it would stop the run."""
        progress, metric = self.running[claim.key], self.plan.sweep.metric
        new = entry.whole_epochs[progress.epoch :]
        for row in new:
            progress.epoch = int(row["epoch"])
            if metric and metric.name in row:
                progress.metric = float(row[metric.name])
                self.plan.report(claim, progress.metric, progress.epoch)
        return bool(new and self.plan.sweep.early_terminate and claim.trial.should_prune())

    def _end(self, claim: Claim, code: int, pruned: bool, entry: Record | None) -> None:
        if entry and entry.status == "finished":  # a signal may come after that
            self.plan.complete(claim, entry.id, _value(self.plan.sweep, entry))
        elif pruned and entry:
            self.plan.prune(claim, entry.id)
        elif self.stopping.is_set():
            self.plan.release(claim)
        else:
            self.failures += 1
            self.plan.fail(claim, self._reason(claim, code, entry), entry.id if entry else None)

    def _reason(self, claim: Claim, code: int, entry: Record | None) -> str:
        if entry and entry.failure and code != 2:
            return entry.failure.message
        log = self._file(claim, ".log")
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        last = lines[-1].removeprefix("error: ") if lines else "it printed nothing"
        ended = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return f"{last} ({ended}; see {log})"


def _value(sweep: Sweep, entry: Record) -> float | None:
    """The sweep's metric of a finished run."""
    if sweep.metric is None:
        return None
    return entry.metrics.get(sweep.metric.name)


def _record(run_file: Path) -> Record | None:
    """The record of the run that a file names, if it can be read by now."""
    try:
        return record.read(Path(run_file.read_text()))
    except (OSError, UserError):
        return None


def _alive(run_file: Path) -> Segment | None:
    """The process of the run that a file names, if it lives."""
    entry = _record(run_file)
    if entry is None or entry.observed_status() != "running":
        return None
    return entry.segments[-1]


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
