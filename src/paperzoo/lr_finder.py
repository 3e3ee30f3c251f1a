"""A range test of the learning rate, Lightning's own (Smith, 2017, section 3.3); no run is left behind.

    python -m paperzoo.lr_finder model=scnet data=cifar10 [steps=100] [lowest=1e-5] [highest=1] [out=lr.png]

All other words are those of src/train.py. The rate rises by the same factor with each step, from ``lowest`` to
``highest``; the curve is the loss, smoothed as Lightning does it. What Lightning suggests is the rate where the loss
falls most over the rate itself, not its logarithm: where it falls slowly, the noise at small rates may win. The rate of
the lowest loss stands beside it; a third to a tenth of that is a usual choice.
"""

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paperzoo.config import program
from paperzoo.errors import UserError
from paperzoo.verbs import whole_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from paperzoo.config.schema import Config

OWN = {"steps": "100", "lowest": "1e-5", "highest": "1", "out": ""}
LINES, BAR = 24, 40  # of the printed curve
SMOOTH = 0.98  # what Lightning's moving average of the loss keeps at each step
LEAST = 13  # steps: Lightning leaves out the first ten and the last, and needs two


class Curve(NamedTuple):
    """What a range test gives."""

    rates: list[float]
    losses: list[float]  # smoothed; fewer than the steps if they grew to four times the lowest
    suggestion: float | None


def find(config: "Config", steps: int = 100, lowest: float = 1e-5, highest: float = 1.0) -> Curve:
    """Train with a rising rate, each step one batch of the training data.

    Args:
        config: as of a training run; its schedule and its number of epochs have no say.
        steps: of the optimiser.
        lowest, highest: learning rates.

    Raises:
        UserError: the run would have several devices or stages, or the options are out of range.
    """
    import warnings

    from pytorch_lightning.tuner import Tuner

    from paperzoo.data.interface import make_data
    from paperzoo.machine import make_trainer
    from paperzoo.random_state import seed_everything
    from paperzoo.runs import checkpoints, weights
    from paperzoo.tasks.making import make_module

    if steps < LEAST:
        raise UserError(f"steps={steps}: must be at least {LEAST}")
    if not 0 < lowest < highest:
        raise UserError(f"lowest={lowest:g} highest={highest:g}: must be rates above 0, the second the larger")
    if config.trainer.devices * config.trainer.num_nodes > 1:
        raise UserError(f"trainer={config.trainer.name}: the learning rate is looked for on one device")
    if not config.procedure.is_fit:
        raise UserError(f"procedure={config.procedure.name}: the learning rate is looked for with procedure=fit")
    data = make_data(config)
    found = weights.of(config)
    module: Any = make_module(config, data, checkpoints.read_plain(found.path) if found else None)
    trainer: Any = make_trainer(config)
    trainer.fit_loop.max_epochs = steps  # an epoch has a step at least: these are enough
    trainer.check_val_every_n_epoch = steps + 1  # never
    _only_train(module, steps * config.trainer.accumulate_grad_batches)
    seed_everything(config.seed, "training")
    with tempfile.TemporaryDirectory() as room, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer._default_root_dir = room  # where Lightning keeps the weights meanwhile
        finder: Any = Tuner(trainer).lr_find(
            module, datamodule=data, min_lr=lowest, max_lr=highest, num_training=steps, update_attr=False
        )
    # Lightning (2.6.6) corrects the bias of its moving average by one step too many: the curve would rise at first.
    losses = [
        loss * (1 - SMOOTH ** (step + 1)) / (1 - SMOOTH**step) for step, loss in enumerate(finder.results["loss"], 1)
    ]
    rates = finder.results["lr"][: len(losses)]
    finder.results |= {"lr": rates, "loss": losses}
    return Curve(rates, losses, finder.suggestion() if len(losses) >= LEAST else None)


def _only_train(module: Any, batches: int) -> None:
    """No schedule, and a window that nobody reads: a loss that is no longer finite ends nothing."""
    module._set_rates = lambda: None
    module.hparams["window"] = batches + 1
    make = module.make_running

    def patient() -> Any:
        running = make()
        running.looks_at_once = False
        return running

    module.make_running = patient


def show(curve: Curve, title: str) -> None:
    """Print the curve, and the rate that is suggested."""
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    table = Table("step", "rate", "loss", "", title=title, box=None, header_style="bold", pad_edge=False)
    last = len(curve.losses) - 1
    finite = [loss for loss in curve.losses if abs(loss) < float("inf")]
    least, most = min(finite, default=0.0), max(finite, default=1.0)
    for step in sorted({round(place * last / LINES) for place in range(LINES + 1)}):
        loss = curve.losses[step]
        bar = "█" * round(BAR * (loss - least) / max(most - least, 1e-12)) if abs(loss) < float("inf") else ""
        table.add_row(str(step + 1), f"{curve.rates[step]:.3g}", f"{loss:.4f}", bar)
    console.print(table)
    if curve.suggestion is None:
        console.print("\nno suggestion: too few losses are finite; set a lower highest=, or more steps=")
    else:
        console.print(f"\nsuggested: optimizer.lr={curve.suggestion:.3g}")
    if finite:
        console.print(f"lowest loss: at {curve.rates[curve.losses.index(least)]:.3g}")


def drawn(curve: Curve, title: str) -> "Figure":
    """The curve with the suggested rate."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(curve.rates, curve.losses)
    if curve.suggestion is not None:
        axes.axvline(curve.suggestion, color="0.4", linestyle="--", label=f"suggested: {curve.suggestion:.3g}")
        axes.legend(frameon=False)
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss (smoothed)", title=title)
    axes.grid(alpha=0.25)
    return figure


def run(config: "Config", **own: str) -> None:
    """What the command does with its own options."""
    rates = {name: _rate(name, own[name]) for name in ("lowest", "highest")}
    curve = find(config, whole_number("steps", own["steps"], minimum=1), **rates)
    title = f"{config.model.network} on {config.data.name}, optimizer={config.optimizer.name}"
    show(curve, title)
    if own["out"]:
        try:
            drawn(curve, title).savefig(own["out"], dpi=120)
        except (OSError, ValueError) as error:
            raise UserError(f"out={own['out']}: cannot be written ({error})") from None
        print(Path(own["out"]))


def _rate(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UserError(f"{name}={text}: must be a learning rate such as 1e-4") from None


def main() -> None:
    """The command line."""
    if sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__)
        return
    program("train", own=OWN)(run)()


if __name__ == "__main__":
    main()
