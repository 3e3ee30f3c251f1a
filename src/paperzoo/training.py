"""One training run: config -> data -> module -> procedure -> record."""

import os
from collections.abc import Iterator
from typing import Any

import pytorch_lightning as L
from matplotlib.figure import Figure

from paperzoo import accounting, pictures, reliability, results, sharding, summary
from paperzoo.config import build, dump
from paperzoo.config.schema import Config
from paperzoo.data.interface import RunData, make_data
from paperzoo.display import Display
from paperzoo.distributed import wait_for_all
from paperzoo.errors import Interrupted, NonFiniteLoss, RunError, UserError
from paperzoo.files import write_atomically
from paperzoo.machine import make_trainer, set_threads, validate_within_epochs
from paperzoo.runs import checkpoints, extending, members, weights
from paperzoo.runs.failures import explain
from paperzoo.runs.history import History
from paperzoo.runs.identity import without_places
from paperzoo.runs.rank_watch import RankWatch
from paperzoo.runs.record import Cost, Failure, Measure, Record, Result
from paperzoo.runs.session import INHERITED, Keeper, Session, Subject, begin, finished_before
from paperzoo.runs.signals import NOTED, interruptible
from paperzoo.stages import Stages
from paperzoo.tasks import optimizers
from paperzoo.tasks.making import make_module
from paperzoo.tasks.task import Place, Task

PROFILE = "profile.txt"  # in the run folder: what trainer.profiler measured


def train(config: Config) -> Record | None:
    """Train, validate and test as ``config`` says; the record of the run folder that is left (rank 0), else None.

    Raises:
        UserError: a mistake in the configuration or the data.
        RunError: the run failed on its way; its record says why.
        Interrupted: it was stopped by a signal; its exact state is saved.
    """
    with interruptible():
        return _train(config)


def _train(config: Config) -> Record | None:
    config = members.resolved(extending.resolved(config))
    trainer = make_trainer(config, checkpoints.AtomicCheckpointIO(without_places(dump(config))))
    display = Display(silent=trainer.global_rank > 0)
    try:
        opened = _open(config, trainer)
    except Interrupted as error:
        display.line(f"{error} while it started: nothing is lost, give the same command again")
        raise
    if isinstance(opened, Record):
        why = "repeat=false" if not config.repeat else "resume=auto has nothing to go on with"
        display.line(f"run {opened.id} has finished before, with the same configuration, data and code: {why}")
        return opened
    data, module, session = opened
    tracker = None
    watch = RankWatch(lambda line: session.end("failed", Failure(kind="RankLost", message=line)))
    watch.begin(trainer)
    try:
        summary.announce(display, config, data, session, module.new_head)
        if config.trainer.summary:
            display.console.print(summary.layers(module, config.trainer.summary), soft_wrap=True)
        tracker = _tracker(config, session, display)
        _go_through(config, trainer, data, module, session, History(display, tracker.log if tracker else None), watch)
    except BaseException as error:
        watch.stop()
        if stop := _stopped(error, watch):
            session.end("interrupted", Failure(kind="Interrupted", message=str(stop)))
            display.line(f"{stop}: {summary.what_is_left(session)}")
            raise stop from None
        failure = explain(error, trainer, session.folder, lost=watch.lost)
        session.end("failed", failure or Failure(kind=type(error).__name__, message=_short(error)))
        if failure and failure.kind == NonFiniteLoss.__name__ and trainer.global_rank > 0:
            raise SystemExit(RunError.exit_code) from None  # all ranks stop for it, one says so
        if failure:
            raise RunError(failure.message) from error
        raise
    finally:
        display.stop()
        os.environ.pop(INHERITED, None)
        if tracker and session.record:
            tracker.finish(session.record)
    if session.record:
        summary.show(display, session, session.record)
    return session.record


def _stopped(error: BaseException, watch: RankWatch) -> Interrupted | None:
    """The signal that ended the run: as raised, or one that waited while a helper process (a compiler's) died of it."""
    if isinstance(error, Interrupted):
        return error
    return Interrupted(NOTED[0]) if NOTED and not watch.lost() else None


MOST = 2000  # characters of a failure's message in the record: a compiler's may be a book


def _short(error: BaseException) -> str:
    text = str(error)
    return text if len(text) <= MOST else f"{text[:MOST]} ... ({len(text):,} characters)"


def _open(config: Config, trainer: L.Trainer) -> tuple[RunData, Task, Session] | Record:
    """What a run needs and its folder; or the record of the run that makes it needless."""
    data = load_data(config, rank=trainer.global_rank, ranks=trainer.world_size)
    members.check(config, data.info)
    if done := finished_before(config, data, trainer.world_size):
        return done
    found = weights.of(config)
    module = make_module(config, data, checkpoints.read_plain(found.path) if found else None)
    members.load(config, module.network)
    if config.trainer.strategy == "fsdp":
        sharding.check(module)
    subject = _subject(config, module, data, found)
    loader = data.train_dataloader()  # a sampler or an optimiser that cannot be is said before there is a run folder
    _check_limits(config, data)
    validate_within_epochs(trainer, config.trainer, len(loader))
    optimizers.make(module.network, config.optimizer, precision=config.trainer.precision)
    session = begin(config, data, trainer, subject)
    module.place = Place(session.folder if session.record else None)
    if session.threads:
        set_threads(session.threads)  # those that the run began with: others round otherwise
    return data, module, session


def _check_limits(config: Config, data: RunData) -> None:
    """A share of a split's batches has at least one of them."""
    for split, limit in config.trainer.limits().items():
        count = len(getattr(data, f"{split}_dataloader")()) if isinstance(limit, float) else 0
        if count and int(limit * count) < 1:
            raise UserError(f"trainer.limit_{split}_batches={limit:g}: is less than one of {count} batches")


def _subject(config: Config, module: Task, data: RunData, found: weights.Weights | None) -> Subject:
    """What the record says of the task."""
    inputs = module.example_inputs(data)
    parameters = sum(parameter.numel() for parameter in module.network.parameters())
    macs = accounting.count_inputs(module.network, inputs).macs if inputs is not None else None
    measures = [Measure(**metric._asdict()) for metric in type(module).metrics]
    began = [found.parent] if found and found.parent else []
    parents = [*began, *extending.parents(config), *members.parents(config)]
    return Subject(Cost(parameters=parameters, macs=macs), measures, module.unit, parents)


def load_data(config: Config, *, rank: int = 0, ranks: int = 1) -> RunData:
    """The data of a run, as this rank sees it."""
    return make_data(config, rank=rank, ranks=ranks)


def _tracker(config: Config, session: Session, display: Display) -> Any:
    """W&B, or whatever the logger group names; on rank 0 alone."""
    entry = session.record
    if entry is None or not config.logger.target:
        return None
    about = {"folder": session.folder, "run_id": entry.id, "config": entry.config, "tags": config.tags}
    return build(config.logger, **about, tell=display.line)


def _go_through(
    config: Config,
    trainer: L.Trainer,
    data: RunData,
    module: Task,
    session: Session,
    history: History,
    watch: RankWatch,
) -> None:
    """All stages, the tests, the pictures, and the record's end."""
    module.place = Place(module.place.folder, history.on_row)
    stages = Stages(config, trainer, data, module, session, history)
    stages.run()
    history.display.stop()
    if session.record and config.trainer.profiler:
        write_atomically(session.folder / PROFILE, trainer.profiler.summary().encode())  # type: ignore[attr-defined]
    trainer.callbacks.append(Keeper(session, history))  # type: ignore[attr-defined] # tests may be long, too
    trainer.callbacks += reliability.callbacks_of(module)  # type: ignore[attr-defined] # what tests alone show
    measured = _test(config, trainer, data, module, session, stages, history)
    skipped = data.count_skipped()
    wait_for_all()
    watch.stop()
    if session.record:
        session.record.data.skipped = skipped
        session.name_skipped(data.skipped_names())
    session.finish(measured, history.epochs, stages.records)


def _test(
    config: Config,
    trainer: L.Trainer,
    data: RunData,
    module: Task,
    session: Session,
    stages: Stages,
    history: History,
) -> dict[str, Result]:
    """Test the last weights and those that validation chose; draw the pictures of the last."""
    last, best = history.epochs[-1], stages.best
    measured = {"last": _tested(trainer, data, module, last)}
    if session.record:
        for name, figure in _figures(trainer, data, module, history) if config.pictures else ():
            split = "" if name == "learning_curves" else ": test split, last epoch"
            title = f"{config.model.network} on {config.data.name}, run {session.record.id}{split}"
            pictures.save(figure, title, session.folder / "figures" / f"{name}.png")
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if hasattr(callback, "metrics"):
                measured["last"].metrics.update(callback.metrics())  # for the reports' pictures
    if not best.epoch:
        return measured
    row = stages.row_of(best.step)
    if row is last:
        return {**measured, "best": measured["last"]}
    module.load_state_dict(checkpoints.load(session.checkpoints / checkpoints.BEST)["state_dict"])
    return {**measured, "best": _tested(trainer, data, module, row)}


def _figures(trainer: L.Trainer, data: RunData, module: Task, history: History) -> Iterator[tuple[str, Figure]]:
    """What the task, the callbacks of papers, and the rows have to show."""
    yield from module.figures(data)
    rows = [row for row in history.epochs if "lr" in row]  # of a fit, not of a loop
    if rows:
        yield "learning_curves", pictures.learning_curves(rows, module.headline(), history.steps)
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if hasattr(callback, "figures"):
            yield from callback.figures()


def _tested(trainer: L.Trainer, data: RunData, module: Task, row: dict[str, Any]) -> Result:
    """The test metrics of the module's weights, beside the validation metrics of their epoch."""
    metrics = results.measure(trainer, module, data, "test")
    metrics |= {name: value for name, value in row.items() if name.startswith("val/")}
    return Result(epoch=row["epoch"], step=int(row["step"]), metrics=metrics)
