"""Going through the stages of a run: each with its own exact state, a resumed run where it was."""

from collections.abc import Iterator
from typing import Any

import pytorch_lightning as L
from pytorch_lightning.loops.fit_loop import _FitLoop
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop

from paperzoo import random_state
from paperzoo.config import build, dump
from paperzoo.config.schema import Config
from paperzoo.data.interface import RunData
from paperzoo.distributed import gather, max_over_ranks
from paperzoo.errors import Interrupted
from paperzoo.machine import stop_at_steps
from paperzoo.procedures.stage import Loop, Procedure, Stage, Training
from paperzoo.runs import checkpoints
from paperzoo.runs.exact_state import Best, ExactState, Interval
from paperzoo.runs.history import History
from paperzoo.runs.identity import without_places
from paperzoo.runs.kept import KeptCheckpoints
from paperzoo.runs.record import StageRecord
from paperzoo.runs.session import Keeper, Session
from paperzoo.tasks.task import Task


class Stages:
    """The stages of one run.

    Args:
        config, trainer, data, module: of the run.
        session: its folder, and the state that it goes on from.
        history: its rows.
    """

    def __init__(
        self, config: Config, trainer: L.Trainer, data: RunData, module: Task, session: Session, history: History
    ) -> None:
        self.config, self.trainer, self.data, self.module = config, trainer, data, module
        self.session, self.history = session, history
        self.procedure: Procedure = build(config.procedure)
        self.best = Best(session.checkpoints, module.headline())
        self.records: list[StageRecord] = []
        self.fit_start = 0  # rows before the last fit
        history.staged = not self.procedure.single
        module.trainer = data.trainer = trainer  # a loop may come before the first fit, and a resumed run skips fits

    def run(self) -> None:
        """Go through all stages; a resumed run prepares those that it has done, and goes on within the next."""
        state = checkpoints.load(self.session.state) if self.session.state else None
        at, outcomes, records = progress(state)
        generator = self.procedure.stages(self.config)
        done: list[Any] = []
        for number, stage in enumerate(_sent(generator, done)):
            _prepare(self.config, number, stage, self.module, self.data)
            if number < at:
                done.append(outcomes[number])
                self.records.append(StageRecord.model_validate(records[number]))
                continue
            resumed = state if number == at else None
            self.history.begin_stage(number, stage.name, resumed=resumed is not None)
            self._go(number, stage, list(done), resumed)
            outcome = self._outcome(number, stage)
            self.records.append(self.history.stage_record(stage.name, stage.kind))
            done.append(outcome)

    def row_of(self, step: int) -> dict[str, Any]:
        """The row of a step of the last fit."""
        before, rows = self.history.epochs[: self.fit_start], self.history.epochs[self.fit_start :]
        start = int(before[-1]["step"]) if before else 0
        return next(row for row in rows if row["step"] == start + step)

    def _outcome(self, number: int, stage: Stage) -> Any:
        if stage.outcome is None:
            return getattr(stage, "result", None)
        random_state.seed_everything(self.config.seed, "outcome", number)
        return stage.outcome(self.module, self.data)

    def _progress(self, number: int, outcomes: list[Any]) -> dict[str, Any]:
        """Which stage is under way, and what came of those before."""
        return {"stage": number, "outcomes": outcomes, "records": [record.model_dump() for record in self.records]}

    def _words(self, number: int) -> tuple[int | str, ...]:
        """What the stage's random states are seeded from."""
        return (self.config.seed, "training", *([number] if number else []))

    def _interval(self) -> Interval:
        return Interval(self.config.checkpoint.every_steps, self.config.checkpoint.every_seconds)

    def _go(self, number: int, stage: Stage, outcomes: list[Any], state: dict[str, Any] | None) -> None:
        if isinstance(stage, Training):
            self._train(number, stage, outcomes, state)
        elif isinstance(stage, Loop):
            self._loop(number, stage, outcomes, state)

    # a fit

    def _train(self, number: int, stage: Training, outcomes: list[Any], state: dict[str, Any] | None) -> None:
        trainer, module, data = self.trainer, self.module, self.data
        if number or stage.epochs:
            self._fresh_loop(stage)
        module.changes = {group: dict(changes) for group, changes in stage.changes.items()}
        module.outcomes = outcomes
        self._forget_best(on_disk=state is None)
        data.weights, data.view = stage.weights, stage.view
        exact = ExactState(
            self.session.checkpoints, self._words(number), self._interval(), self._progress(number, outcomes)
        )
        average, stopping = self._average(), self._stopping()
        self.best.average = average
        keeper = Keeper(self.session, self.history)
        own = [average, self.history, self.best, self._kept(average), keeper, stopping, exact]
        own = [callback for callback in own if callback is not None]
        trainer.callbacks += own  # type: ignore[attr-defined]
        path = self.session.state if state is not None else None
        try:
            trainer.fit(module, datamodule=data, ckpt_path=path, weights_only=True)
        finally:
            exact.interval.restore()
            trainer.callbacks = [c for c in trainer.callbacks if c not in own]  # type: ignore[attr-defined]
        if average is not None:
            average.keep(module.network)
        if stopping is not None and (why := stopping.said()):
            self.history.display.line(why)
        self.fit_start = self.history.stage_start[0]
        data.begin_stage()  # what reads training batches from now on begins with the first
        module.forget_state()
        trainer.save_checkpoint(self.session.checkpoints / checkpoints.LAST, weights_only=True)

    def _kept(self, average: Any) -> KeptCheckpoints:
        choice = self.config.checkpoint
        return KeptCheckpoints(
            self.session.checkpoints,
            self.module.headline(),
            self.history,
            average,
            top_k=choice.top_k,
            every_n_epochs=choice.every_n_epochs,
        )

    def _average(self) -> Any:
        return build(self.config.average) if self.config.average else None

    def _stopping(self) -> Any:
        headline = self.module.headline()
        if self.config.stopping is None:
            return None
        return build(self.config.stopping, metric=headline.name, goal=headline.goal)

    def _forget_best(self, *, on_disk: bool) -> None:
        """The best weights are those of one stage: they may not fit what the next makes of the module."""
        self.best = Best(self.session.checkpoints, self.module.headline())
        if on_disk and self.trainer.global_rank == 0:
            (self.session.checkpoints / checkpoints.BEST).unlink(missing_ok=True)

    def _fresh_loop(self, stage: Training) -> None:
        """Lightning's trainer starts afresh: its loops count epochs and steps from zero, to ``trainer.max_steps``."""
        choice = self.config.trainer
        self.trainer.fit_loop = _FitLoop(self.trainer, min_epochs=0, max_epochs=stage.epochs or choice.max_epochs)
        self.trainer.fit_loop.epoch_loop = _TrainingEpochLoop(self.trainer, max_steps=choice.max_steps or -1)
        stop_at_steps(self.trainer)
        self.trainer.should_stop = False
        self.data.begin_stage()

    # a loop

    def _loop(self, number: int, loop: Loop, outcomes: list[Any], state: dict[str, Any] | None) -> None:
        interval = self._interval()
        device = self.trainer.strategy.root_device
        _meet(self.trainer)
        self.module.to(device)
        self.data.weights = self.data.view = None  # those of a fit before it, which a resumed run has not set
        self.module.changes = {}
        if loop.prepare is not None:
            self._forget_best(on_disk=state is None)
        if state is None:
            random_state.seed_everything(*self._words(number), "rank", self.trainer.global_rank)
        else:
            self._restore(loop, state)
        interval.install()
        try:
            while (candidate := loop.ask()) is not None:
                values = loop.evaluate(self.module, self.data, candidate)
                loop.tell(candidate, values)
                row = self.history.tried(values)
                self.session.beat()
                stop, save = max_over_ranks([interval.received, int(interval.is_due(int(row["step"])))], device)
                if stop or save:
                    self._save(number, loop, outcomes)
                    interval.saved()
                if stop:
                    raise Interrupted(stop)
            self._save(number, loop, outcomes)
        finally:
            interval.restore()
        self.module.outcomes = outcomes
        content = self._weights()  # of all ranks, which tell each other what is their own
        if self.trainer.global_rank == 0:
            checkpoints.save(content, self.session.checkpoints / checkpoints.LAST)
        if self.session.record:
            self.session.record.epochs = list(self.history.epochs)
            self.session.write()
            self.history.write(self.session.folder)

    def _weights(self) -> dict[str, Any]:
        """What a loop leaves, as a fit leaves it: weights, and what the module is made of."""
        content = {
            "epoch": 0,
            "global_step": self.history.last_step,
            "pytorch-lightning_version": L.__version__,
            "state_dict": self.module.state_dict(),
            L.LightningModule.CHECKPOINT_HYPER_PARAMS_KEY: dict(self.module.hparams),
            checkpoints.CONFIG: without_places(dump(self.config)),
        }
        self.module.on_save_checkpoint(content)
        return content

    def _save(self, number: int, loop: Loop, outcomes: list[Any]) -> None:
        """The exact state between two tries."""
        ranks = gather(random_state.state())
        if self.trainer.global_rank:
            return
        content = {
            "global_step": self.history.last_step,
            "state_dict": self.module.state_dict(),
            "loop": loop.state_dict(),
            "best": {**self.best.state_dict(), "fit_start": self.fit_start},
            "callbacks": {
                "ExactState": {"ranks": ranks, **self._progress(number, outcomes)},
                "History": self.history.state_dict(),
            },
        }
        checkpoints.save(content, self.session.checkpoints / checkpoints.STATE)

    def _restore(self, loop: Loop, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["state_dict"])
        self.history.load_state_dict(state["callbacks"]["History"])
        loop.load_state_dict(state["loop"])
        self.best.load_state_dict(state["best"])
        self.fit_start = state["best"]["fit_start"]
        random_state.restore(state["callbacks"]["ExactState"]["ranks"][self.trainer.global_rank])


def prepare(config: Config, module: Task, data: RunData, outcomes: list[Any]) -> None:
    """Make a module what it was in the stage after those that came to ``outcomes``, so that its weights fit.

    A checkpoint holds them (``outcomes``): pruned layers and new heads are there only once the stages before are known.
    """
    procedure: Procedure = build(config.procedure)
    done: list[Any] = []
    for number, stage in enumerate(_sent(procedure.stages(config), done)):
        _prepare(config, number, stage, module, data)
        if number == len(outcomes):
            return
        done.append(outcomes[number])


def _prepare(config: Config, number: int, stage: Stage, module: Task, data: RunData) -> None:
    if stage.prepare is not None:
        random_state.seed_everything(config.seed, "prepare", number)
        stage.prepare(module, data)


def _meet(trainer: L.Trainer) -> None:
    """Start the other ranks and form their group, as ``trainer.fit`` does where it has not yet: a loop may be first."""
    form_group = trainer.strategy.setup_environment
    if trainer.strategy.launcher is None:
        form_group()
    else:
        trainer.strategy.launcher.launch(form_group, trainer=trainer)


def progress(state: dict[str, Any] | None) -> tuple[int, list[Any], list[Any]]:
    """The stage that a state is in, and outcomes and records of those before; older states are in the only one."""
    exact = (state or {}).get("callbacks", {}).get("ExactState", {})
    return int(exact.get("stage", 0)), list(exact.get("outcomes", [])), list(exact.get("records", []))


def _sent(generator: Any, done: list[Any]) -> Iterator[Stage]:
    """The stages of a generator, which is sent the outcome of each when the next is asked for."""
    try:
        stage = next(generator)
        while True:
            yield stage
            stage = generator.send(done[-1])
    except StopIteration:
        return
