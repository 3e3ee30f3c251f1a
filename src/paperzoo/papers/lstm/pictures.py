"""What gates do along a text."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import Tensor

UNITS = 24  # hidden units that are drawn, those whose state changes most
TITLES = {
    "i": "input gate", "f": "forget gate", "o": "output gate", "g": "new value", "c": "cell state",
    "r": "reset gate", "z": "update gate", "n": "new value",
}  # fmt: skip
SIGNED = ("g", "c", "n")


def gates(activations: Mapping[str, Tensor], text: str) -> Figure:
    """A row of cells for each gate, hidden units downwards, the text's characters along.

    Args:
        activations: (T, H) by name.
        text: T characters.
    """
    memory = activations.get("c", activations["h"]).cpu()
    units = memory.diff(dim=0).abs().sum(0).argsort(descending=True, stable=True)[:UNITS]
    shown = [name for name in activations if name in TITLES]
    figure = Figure(figsize=(min(4 + 0.16 * len(text), 20), 1.9 * len(shown) + 0.6), layout="constrained")
    for axes, name in zip(figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0], shown, strict=True):
        values = activations[name].cpu()[:, units].T  # (units, T)
        limit = max(float(values.abs().max()), 1e-6)
        low, high, colours = (-limit, limit, "RdBu_r") if name in SIGNED else (0.0, 1.0, "viridis")
        image = axes.imshow(values, aspect="auto", vmin=low, vmax=high, cmap=colours, interpolation="nearest")
        figure.colorbar(image, ax=axes, pad=0.01)
        axes.set(ylabel=f"{TITLES[name]}\n{len(units)} units", yticks=[])
        axes.set_xticks(range(len(text)), [repr(letter)[1:-1] for letter in text], fontfamily="monospace", fontsize=8)
        axes.tick_params(labelbottom=True, length=0)
    return figure
