"""The plan of a sweep, in Optuna's storage: which runs there are, whose they are, and how they ended.

A run of the plan has a key: its cell (grid) or the number of its first trial (search). A trial is one agent's go at it.
An agent that dies leaves its trial running; another gives it up and enqueues the key again. Two that do so at once
make two trials of a key, of which the lowest number counts: no lock is needed, on any database.
"""

import contextlib
import hashlib
import json
import math
import os
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
import psutil
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from paperzoo.errors import UserError
from paperzoo.runs.record import process_lives, process_mark
from paperzoo.sweeps.search import cell_of, space
from paperzoo.sweeps.specification import Cell, Sweep

SILENT_AFTER = 120.0  # seconds without a sign from an agent on another host
TRIES = 10  # to make the tables
EPOCHS = "trainer.max_epochs"
TOO_LATE = contextlib.suppress(UpdateFinishedTrialError)  # others took this agent for dead; the trial is not its own
LIVE = (TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED)
# Why a trial failed: the run itself, its agent (to be taken over), or nothing was left to do.
Outcome = Literal["failed", "lost", "surplus"]


@dataclass(frozen=True)
class Claim:
    """A run that this agent is to do."""

    key: str
    cell: Cell
    trial: optuna.Trial


class Plan:
    """One sweep's runs.

    Args:
        sweep: the specification.
        name: of the file, which names the study.
        url: Optuna's storage, such as ``sqlite:///runs/sweeps/x.db`` or ``postgresql://user@host/database``.

    Raises:
        UserError: the storage cannot be reached.
    """

    def __init__(self, sweep: Sweep, name: str, url: str) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.sweep = sweep
        self.name = name if sweep.method == "grid" else f"{name}-{_digest(sweep)}"
        self.storage = open_storage(url)
        goal = sweep.metric.goal if sweep.metric else "maximize"
        self.study = optuna.create_study(
            study_name=self.name,
            storage=self.storage,
            direction=goal,
            load_if_exists=True,
            sampler=_sampler(sweep),
            pruner=_pruner(sweep),
        )
        self.cells = {key_of(cell): cell for cell in sweep.cells()} if sweep.method == "grid" else {}
        self.space = {} if self.cells else space(sweep)  # a key says all of a grid's cell, and the grid may grow
        self.me = {"host": socket.gethostname(), "pid": os.getpid(), "process": process_mark(os.getpid())}
        self.me["started"] = psutil.Process().create_time()

    @property
    def planned(self) -> int | None:
        """How many runs there will be; None for a search without ``run_cap``."""
        return len(self.cells) if self.cells else self.sweep.run_cap

    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    def counted(self) -> dict[str, FrozenTrial]:
        """For each key the trial that counts: the first live one, else the last failed; cells no more planned aside."""
        found: dict[str, FrozenTrial] = {}
        for trial in self.trials():
            key = self._key(trial)
            if key is None or (self.cells and key not in self.cells):
                continue
            if key not in found or found[key].state not in LIVE:
                found[key] = trial
        return found

    def settle(self) -> list[str]:
        """Give up trials whose agent is dead, and enqueue every key that has no trial. Returns what was taken over."""
        lost = [trial for trial in self.study.get_trials(False, (TrialState.RUNNING,)) if self._is_dead(trial)]
        for trial in lost:
            self._fail(trial.number, "lost", "its agent died")
        counted = self.counted()
        for key in self.cells:
            if key not in counted:
                self._enqueue(key, None)
        for key, trial in counted.items():
            if trial.state == TrialState.FAIL and trial.user_attrs.get("outcome", "lost") == "lost":
                self._enqueue(key, trial)
        return [taken for trial in lost if (taken := self._key(trial))]

    def retry_failed(self) -> int:
        """Enqueue again what failed by itself."""
        failed = [(key, trial) for key, trial in self.counted().items() if trial.user_attrs.get("outcome") == "failed"]
        for key, trial in failed:
            self._enqueue(key, trial)
        return len(failed)

    def claim(self) -> Claim | None:
        """The next run for this agent; None when nothing is left that nobody does."""
        while True:
            waiting = self.study.get_trials(False, (TrialState.WAITING,))
            if not waiting and (self.cells or self._is_full()):
                return None
            try:
                trial = self.study.ask(self.space)
            except UpdateFinishedTrialError:  # what was waiting is over by now
                continue
            trial.set_user_attr("agent", self.me)
            trial.set_user_attr("beat", time.time())
            key = trial.user_attrs.get("key")
            if key is None and self.cells:  # another agent took what was waiting
                self._fail(trial.number, "surplus", "nothing was left")
                continue
            if key is None:
                key = str(trial.number)
                trial.set_user_attr("key", key)
            counts = self.counted().get(key)
            if counts is None:  # waiting since before the file was edited
                self._fail(trial.number, "surplus", "it is no longer planned")
                continue
            if counts.number != trial.number or self._is_beyond_cap(key):
                self._fail(trial.number, "surplus", "another agent does it")
                continue
            return Claim(key, self.cells.get(key) or cell_of(self.sweep, trial.params), trial)

    def beat(self, claim: Claim) -> None:
        """A sign of life."""
        with TOO_LATE:
            claim.trial.set_user_attr("beat", time.time())

    def report(self, claim: Claim, value: float, epoch: int) -> None:
        """The metric after an epoch."""
        with TOO_LATE:
            claim.trial.report(value, epoch)

    def complete(self, claim: Claim, run: str, value: float | None) -> None:
        """The run has finished."""
        if self.sweep.metric and (value is None or math.isnan(value)):
            self.fail(claim, f"{run} has no {self.sweep.metric.name}", run)
            return
        with TOO_LATE:
            claim.trial.set_user_attr("run", run)
            self.study.tell(claim.trial.number, 0.0 if value is None else value, skip_if_finished=True)

    def prune(self, claim: Claim, run: str) -> None:
        """The run was stopped early."""
        with TOO_LATE:
            claim.trial.set_user_attr("run", run)
            self.study.tell(claim.trial.number, state=TrialState.PRUNED, skip_if_finished=True)

    def fail(self, claim: Claim, reason: str, run: str | None = None) -> None:
        """The run failed by itself."""
        with TOO_LATE:
            if run:
                claim.trial.set_user_attr("run", run)
            self._fail(claim.trial.number, "failed", reason)

    def release(self, claim: Claim) -> None:
        """The agent stops before the run has ended; whoever comes next goes on with it."""
        self._fail(claim.trial.number, "lost", "its agent stopped")

    def _fail(self, number: int, outcome: Outcome, reason: str) -> None:
        trial = self.trials()[number]
        if trial.state.is_finished():
            return
        with TOO_LATE:
            self.storage.set_trial_user_attr(trial._trial_id, "outcome", outcome)
            self.storage.set_trial_user_attr(trial._trial_id, "reason", reason)
            self.study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _enqueue(self, key: str, before: FrozenTrial | None) -> None:
        self.study.enqueue_trial(dict(before.params) if before else {}, user_attrs={"key": key})

    def _key(self, trial: FrozenTrial) -> str | None:
        """None for a trial that stands for no run; a new trial of a search has its key before it is written."""
        if trial.user_attrs.get("outcome") == "surplus":
            return None
        key: str | None = trial.user_attrs.get("key")
        return key if self.cells or key else str(trial.number)

    def _is_full(self) -> bool:
        return self.sweep.run_cap is not None and len(self.counted()) >= self.sweep.run_cap

    def _is_beyond_cap(self, key: str) -> bool:
        return bool(self.sweep.run_cap and not self.cells and key not in list(self.counted())[: self.sweep.run_cap])

    def _is_dead(self, trial: FrozenTrial) -> bool:
        agent = trial.user_attrs.get("agent")
        if agent is None:  # died between two writes, or is between them now
            started = trial.datetime_start
            return started is not None and time.time() - started.timestamp() > SILENT_AFTER
        if agent["host"] != socket.gethostname():
            return time.time() - float(trial.user_attrs.get("beat", 0)) > SILENT_AFTER
        return not process_lives(agent["pid"], agent.get("process"), agent["started"])


def key_of(cell: Cell) -> str:
    """A cell as text, the same whatever the order of its parameters."""
    return json.dumps(cell, sort_keys=True)


def open_storage(url: str) -> optuna.storages.BaseStorage:
    """Optuna's storage of a URL; the folder of an SQLite file is made.

    Raises:
        UserError: it cannot be reached, or its driver is not installed.
    """
    from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

    arguments: dict[str, Any] = {"pool_pre_ping": True}
    address = url.replace("postgresql://", "postgresql+psycopg://", 1)
    try:
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
            arguments = {"connect_args": {"timeout": 60}}
        storage = _made(address, arguments)
    except (ArgumentError, NoSuchModuleError):
        raise UserError(f"storage={url}: must be sqlite:///<file> or postgresql://<user>@<host>/<database>") from None
    except (ImportError, ModuleNotFoundError) as error:
        raise UserError(f"storage={url}: its driver is missing ({error}); pip install 'paperzoo[postgres]'") from None
    except (SQLAlchemyError, OSError) as error:
        first = str(getattr(error, "orig", error)).strip().splitlines()[0]
        raise UserError(f"storage={url}: cannot be reached ({first})") from None
    if url.startswith("sqlite:"):
        _lock_first(storage.engine)
    return storage


def _made(address: str, arguments: dict[str, Any]) -> optuna.storages.RDBStorage:
    """The storage; of two that make the tables at the same moment one fails, and finds them on its next try."""
    from sqlalchemy.exc import SQLAlchemyError

    for _ in range(TRIES):
        try:
            return optuna.storages.RDBStorage(address, engine_kwargs=arguments)
        except SQLAlchemyError as error:
            if "already exists" not in str(error) and "UNIQUE" not in str(error).upper():
                raise
            time.sleep(0.5)
    return optuna.storages.RDBStorage(address, engine_kwargs=arguments)


def _lock_first(engine: Any) -> None:
    """SQLite knows no SELECT ... FOR UPDATE, by which Optuna gives a trial to one agent alone: lock on BEGIN."""
    from sqlalchemy import event

    @event.listens_for(engine, "connect")
    def _(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver would begin by itself, without a lock

    @event.listens_for(engine, "begin")
    def _(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    engine.dispose()  # what is open was opened without


def _digest(sweep: Sweep) -> str:
    """Searches with another space or goal are other studies."""
    content = sweep.model_dump_json(include={"method", "parameters", "metric"})
    return hashlib.sha256(content.encode()).hexdigest()[:6]


def _sampler(sweep: Sweep) -> optuna.samplers.BaseSampler:
    """No seed: agents that drew the same numbers would all try the same."""
    if sweep.method == "bayes":
        return optuna.samplers.TPESampler(constant_liar=True)
    return optuna.samplers.RandomSampler()


def _pruner(sweep: Sweep) -> optuna.pruners.BasePruner:
    stop = sweep.early_terminate
    if stop is None:
        return optuna.pruners.NopPruner()
    epochs = sweep.parameters.get(EPOCHS)
    known = epochs.value if epochs and isinstance(epochs.value, int) else None
    return optuna.pruners.HyperbandPruner(
        min_resource=stop.first_bracket,
        max_resource=stop.max_iter or known or "auto",
        reduction_factor=max(2, round(stop.eta)),
    )


def runs_of(plan: Plan) -> list[tuple[Cell, str]]:
    """The cell and the run id of every run of the plan that has one, in the plan's order."""
    counted = plan.counted()
    keys: Iterable[str] = plan.cells or counted
    return list(_with_runs(plan, counted, keys))


def _with_runs(plan: Plan, counted: dict[str, FrozenTrial], keys: Iterable[str]) -> Iterator[tuple[Cell, str]]:
    for key in keys:
        trial = counted.get(key)
        if trial and "run" in trial.user_attrs:
            yield plan.cells.get(key) or cell_of(plan.sweep, trial.params), trial.user_attrs["run"]
