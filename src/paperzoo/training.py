"""One training run: config -> data -> module -> trainer -> record."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as L

from paperzoo import accounting, pictures
from paperzoo.config import build
from paperzoo.config.building import locate
from paperzoo.config.schema import Config, Model
from paperzoo.data.module import ImageData
from paperzoo.display import Display
from paperzoo.errors import Interrupted, RunError, UserError
from paperzoo.machine import make_trainer, set_threads, use_channels_last
from paperzoo.networks import official
from paperzoo.norms.ratios import NormRatios, layers_with_ratios
from paperzoo.runs import checkpoints, compare, folders, random_state, record
from paperzoo.runs.exact_state import Best, ExactState
from paperzoo.runs.failures import explain
from paperzoo.runs.history import History
from paperzoo.runs.rank_watch import RankWatch
from paperzoo.runs.record import Cost, Failure, Record, Result
from paperzoo.runs.session import INHERITED, Keeper, Session, begin, finished_before
from paperzoo.runs.signals import interruptible
from paperzoo.tasks.classification import Classification
from paperzoo.tasks.distributed import wait_for_all


def train(config: Config) -> Record | None:
    """Train, validate and test as ``config`` says; the record of the run folder that is left (rank 0), else None.

    Raises:
        UserError: a mistake in the configuration or the data.
        RunError: the run failed on its way; its record says why.
        Interrupted: it was told to stop; its exact state is saved.
    """
    with interruptible():
        return _train(config)


def _train(config: Config) -> Record | None:
    trainer = make_trainer(config)
    display = Display(silent=trainer.global_rank > 0)
    try:
        opened = _open(config, trainer)
    except Interrupted as error:
        display.line(f"{error} while it started: nothing is lost, give the same command again")
        raise
    if isinstance(opened, Record):
        display.line(f"run {opened.id} has finished before, with the same configuration, data and code: repeat=false")
        return opened
    data, module, session = opened
    tracker = None
    watch = RankWatch(lambda line: session.end("failed", Failure(kind="RankLost", message=line)))
    watch.begin(trainer)
    try:
        _announce(display, config, data, session)
        tracker = _tracker(config, session, display)
        best, history = _fit(config, trainer, data, module, session, display, tracker)
        results = _test(config, trainer, data, module, session, best, history)
        skipped = data.count_skipped()
        wait_for_all()
        watch.stop()
        if session.record:
            session.record.data.skipped = skipped
        session.finish(results, history.epochs)
    except Interrupted as error:
        watch.stop()
        session.end("interrupted", Failure(kind="Interrupted", message=str(error)))
        display.line(f"{error}: {_what_is_left(session)}")
        raise
    except BaseException as error:
        watch.stop()
        failure = explain(error, trainer, session.folder, lost=watch.lost)
        session.end("failed", failure or Failure(kind=type(error).__name__, message=str(error)))
        if failure and failure.kind == "NonFiniteLoss" and trainer.global_rank > 0:
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
        _summarise(display, session, session.record)
    return session.record


def _open(config: Config, trainer: L.Trainer) -> tuple[ImageData, Classification, Session] | Record:
    """What a run needs and its folder; or the record of the run that makes it needless."""
    data = load_data(config, rank=trainer.global_rank, ranks=trainer.world_size)
    if not config.repeat and (done := finished_before(config, data, trainer.world_size)):
        return done
    module = make_module(config, data)
    counted = accounting.count(module.network, (data.in_chans, data.image_size, data.image_size))
    session = begin(config, data, trainer, Cost(parameters=counted.parameters, macs=counted.macs))
    if session.threads:
        set_threads(session.threads)  # those that the run began with: others round otherwise
    return data, module, session


def _what_is_left(session: Session) -> str:
    """Of an interrupted run."""
    if session.record and session.record.status == "finished":
        return "the run has finished, its results are on record"
    saved = "the exact state is saved" if checkpoints.newest_state(session.folder) else "no state was saved yet"
    return f"{saved}, go on with the same command and resume=auto"


def load_data(config: Config, *, rank: int = 0, ranks: int = 1) -> ImageData:
    """The data of a run, as this rank sees it."""
    data = ImageData(config.data, data_dir=config.paths.data_dir, seed=config.seed, rank=rank, world_size=ranks)
    data.setup()
    return data


def make_module(config: Config, data: ImageData) -> Classification:
    """The paper's module, its weights drawn from the seed alone: equal on every rank."""
    random_state.seed_everything(config.seed, "weights")
    plain = config.model_dump(mode="json", by_alias=True)
    module: Classification = build(
        config.model.target,
        model=plain["model"],
        num_classes=data.num_classes,
        in_chans=data.in_chans,
        channels_last=use_channels_last(config.trainer),
        window=config.trainer.log_every_n_steps,
        **{group: plain[group] for group in ("loss", "optimizer", "scheduler", "mix", "norm")},
    )
    if config.model.checkpoint:
        load_official(module, config.model)
    if config.trainer.precision == "64-true":
        module.network.double()  # before a state is loaded: Lightning would do it after, and round the state
    if config.trainer.compile:
        module.network.compile()
    return module


def load_official(module: Classification, model: Model) -> None:
    """Load officially published weights into a module's network; its classifier is then made anew for the data.

    Raises:
        UserError: the file is no checkpoint, or its weights do not fit the network.
    """
    state = checkpoints.read_plain(Path(str(model.checkpoint)))
    network: Any = module.network
    classes = network.num_classes
    published = official.unwrap(state).get(f"{official.classifier_name(network)}.weight")
    network.reset_classifier(len(published) if published is not None else classes)
    locate(f"{model.target.rsplit('.', 2)[0]}.load_official")(network, state)
    if network.num_classes != classes:
        network.reset_classifier(classes)


def _tracker(config: Config, session: Session, display: Display) -> Any:
    """W&B, or whatever the logger group names; on rank 0 alone."""
    entry = session.record
    if entry is None or not config.logger.target:
        return None
    about = {"folder": session.folder, "run_id": entry.id, "config": entry.config, "tags": config.tags}
    return build(config.logger, **about, tell=display.line)


def _fit(
    config: Config,
    trainer: L.Trainer,
    data: ImageData,
    module: Classification,
    session: Session,
    display: Display,
    tracker: Any,
) -> tuple[Best, History]:
    """Train to the end, from the session's state if it has one."""
    history = History(display, config.data.batch_size * trainer.world_size, tracker.log if tracker else None)
    best = Best(session.checkpoints)
    exact = ExactState(
        session.checkpoints,
        (config.seed, "training"),
        config.checkpoint.every_steps,
        config.checkpoint.every_seconds,
    )
    trainer.callbacks += [history, best, Keeper(session, history)]  # type: ignore[attr-defined]
    if layers_with_ratios(module.network):
        folder = session.folder if session.record else None
        trainer.callbacks.append(NormRatios(folder, tracker.log if tracker else None))  # type: ignore[attr-defined]
    trainer.callbacks.append(exact)  # type: ignore[attr-defined] # the last: it saves all others' states
    try:
        trainer.fit(module, datamodule=data, ckpt_path=session.state, weights_only=True)
    finally:
        exact.listen_no_more()
    trainer.save_checkpoint(session.checkpoints / checkpoints.LAST, weights_only=True)
    display.stop()
    return best, history


def _test(
    config: Config,
    trainer: L.Trainer,
    data: ImageData,
    module: Classification,
    session: Session,
    best: Best,
    history: History,
) -> dict[str, Result]:
    """Test the last weights and those that validation chose; draw the pictures of the last."""
    last_row = history.epochs[-1]
    results = {"last": _tested(trainer, data, module, last_row)}
    if session.record and module.confusion is not None:
        title = f"{config.model.network} on {config.data.name}: test split, last epoch"
        figures = session.folder / "figures"
        figures.mkdir(exist_ok=True)
        module.draw(data, figures, title)
        title = f"{config.model.network} on {config.data.name}, run {session.record.id}"
        pictures.learning_curves(history.epochs, title, figures / "learning_curves.png", module.headline)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, NormRatios):
                pictures.norm_ratios(callback.last(), title, figures / "norm_ratios.png")
                results["last"].metrics.update(callback.shares())  # for the reports' picture
    if best.epoch == last_row["epoch"]:
        return {**results, "best": results["last"]}
    if best.epoch:
        weights = checkpoints.load(session.checkpoints / checkpoints.BEST)
        module.load_state_dict(weights["state_dict"])
        results["best"] = _tested(trainer, data, module, history.epochs[best.epoch - 1])
    return results


def _tested(trainer: L.Trainer, data: ImageData, module: Classification, row: Mapping[str, Any]) -> Result:
    """The test metrics of the module's weights, beside the validation metrics of their epoch."""
    trainer.test(module, datamodule=data, verbose=False)
    metrics = {f"test/{name}": value for name, value in module.results["test"].items()}
    metrics |= {name: value for name, value in row.items() if name.startswith("val/")}
    return Result(epoch=int(row["epoch"]), step=int(row["step"]), metrics=metrics)


def _announce(display: Display, config: Config, data: ImageData, session: Session) -> None:
    if session.record is None:
        return
    counted = session.record.cost
    display.line(
        f"[bold]{config.model.name}[/bold] ({config.model.network}, {counted.parameters:,} parameters, "
        f"{counted.macs / 1e6:,.1f} M MACs) on {data.description}"
    )
    verb = f"goes on from step {session.record.segments[-1].from_step:,}" if session.state else "begins"
    display.line(f"run {session.record.id} {verb} in {session.folder}")


def _summarise(display: Display, session: Session, entry: Record) -> None:
    """The end of a run: what was measured, what it took, where it is, how to get it again."""
    tests = {
        name: (result.epoch, {key: value for key, value in result.metrics.items() if key.startswith("test/")})
        for name, result in entry.results.items()
    }
    display.results(tests)
    memory = (entry.cost.peak_memory_bytes or 0) / 2**20
    display.facts(
        {
            "parameters": f"{entry.cost.parameters:,}",
            "MACs": f"{entry.cost.macs:,} an image",
            "time": f"{entry.wall_seconds:.1f} s",
            "throughput": f"{entry.cost.images_per_second or 0:,.0f} images/s in training",
            "peak memory": f"{memory:,.0f} MiB",
            "run": entry.id,
            "folder": str(session.folder),
            "evaluate": f"python src/evaluate.py run={entry.id}",
            "reproduce": f"python src/reproduce.py {entry.id}",
        }
    )
    if entry.data.skipped:
        skipped = ", ".join(f"{count:,} of {split}" for split, count in entry.data.skipped.items() if count)
        if skipped:
            display.line(f"skipped corrupt images: {skipped} (data.on_error=skip)")
    _compare_with_first(display, session, entry)


def _compare_with_first(display: Display, session: Session, entry: Record) -> None:
    """Say whether a repeated run has the results of the first finished attempt."""
    for attempt in folders.attempts(session.folder.parent):
        try:
            first = record.read(session.folder.parent / str(attempt))
        except UserError:
            continue
        if first.status == "finished" and first.attempt < entry.attempt:
            difference = compare.first_difference(first, entry)
            verdict = f"differs from it: {difference}" if difference else "every metric is equal, bit for bit"
            display.line(f"[bold]repeats[/bold]    {first.id}: {verdict}")
            return
