"""The paper's pictures of one run."""

from collections.abc import Sequence

from matplotlib.figure import Figure


def between(lambdas: Sequence[float], gradient_norm: Sequence[float], misses: Sequence[float]) -> Figure:
    """Gradient norm and misses over λ."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    columns = ((gradient_norm, 1, "norm of the logits' gradient"), (misses, 100, "neither of the two classes (%)"))
    for axes, (values, scale, label) in zip(figure.subplots(1, 2), columns, strict=True):
        axes.plot(lambdas, [scale * value for value in values], marker="o", markersize=3, color="#0072B2")
        axes.set(xlabel="weight of the first training image", ylabel=label, xlim=(0, 1))
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return figure
