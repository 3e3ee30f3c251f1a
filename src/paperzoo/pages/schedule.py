"""The learning rate over the steps of a run, as a schedule of ``conf/scheduler`` makes it."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from paperzoo import cards
from paperzoo.config import build, compose
from paperzoo.errors import UserError
from paperzoo.verbs import whole_number

POINTS, BAR = 24, 50


def show(
    scheduler: str = "cosine", epochs: str = "12", steps: str = "62", warmup: str = "", out: str = "", **keys: str
) -> None:
    """Print a schedule, or draw it into a file.

    Args:
        scheduler: a word of ``scheduler=``.
        epochs: of the run.
        steps: of an epoch; 62 are mnist5k's in batches of 64.
        warmup: epochs; empty keeps the schedule's own.
        out: a .png, .svg or .pdf to draw into; empty prints.
        keys: of the schedule, as of training: ``scheduler.cycle_epochs=3``.

    Raises:
        UserError: the schedule or one of these is none.
    """
    for key, value in keys.items():
        if not key.startswith("scheduler."):
            raise UserError(
                f"{key}={value}: page=schedule has no such option; give keys of the schedule, scheduler.<key>"
            )
    own = [f"{key}={value}" for key, value in keys.items()]
    number, per_epoch = whole_number("epochs", epochs, minimum=1), whole_number("steps", steps, minimum=1)
    words = [f"model={cards.slugs()[0]}", "optimizer=sgd", f"scheduler={scheduler}", f"trainer.max_epochs={number}"]
    config = compose("train", [*words, *([f"scheduler.warmup_epochs={warmup}"] if warmup else []), *own])
    factor = build(config.scheduler, total_steps=number * per_epoch, steps_per_epoch=per_epoch)
    rates = [config.optimizer.lr * factor(step) for step in range(number * per_epoch)]
    chosen = ", ".join([f"scheduler={scheduler}", *own])
    title = f"{chosen}, {number} epochs of {per_epoch} steps, optimizer.lr={config.optimizer.lr:g}"
    if out:
        _draw(rates, per_epoch, title, Path(out))
        print(out)
    else:
        _print(rates, per_epoch, title)


def _print(rates: list[float], per_epoch: int, title: str) -> None:
    table = Table("step", "epoch", "rate", "", title=title, box=None, header_style="bold", pad_edge=False)
    shown = sorted({round(place * (len(rates) - 1) / POINTS) for place in range(POINTS + 1)} | {0, len(rates) - 1})
    most = max(rates) or 1
    for step in shown:
        bar = "█" * round(BAR * rates[step] / most)
        table.add_row(str(step), f"{step / per_epoch:.1f}", f"{rates[step]:.4g}", bar)
    Console(highlight=False).print(table)


def _draw(rates: list[float], per_epoch: int, title: str, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot([step / per_epoch for step in range(len(rates))], rates)
    axes.set(xlabel="epoch", ylabel="learning rate", title=title)
    axes.grid(alpha=0.25)
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise UserError(f"out={path}: cannot be written ({error})") from None
