"""The options of samplers: see ``samplers.py``."""

from typing import Annotated

from pydantic import ConfigDict, Field

from paperzoo.config.schema import Count, Positive, Sampler


class Plain(Sampler):
    """Shuffled, sequential, class-balanced: no options."""

    model_config = ConfigDict(extra="forbid")


class Bootstrap(Plain):
    """Drawn with replacement."""

    draw: Count = 0  # which bootstrap sample: members of an ensemble take 0, 1, 2, ...


class Weighted(Plain):
    """Drawn by weight."""

    class_weights: list[Annotated[float, Field(ge=0)]] | None = None
    file: str | None = None  # .npy of (N,)


class PK(Plain):
    """P identities with K samples each."""

    k: Positive = 4


SCHEMAS = {
    "shuffled": Plain,
    "sequential": Plain,
    "class_balanced": Plain,
    "bootstrap": Bootstrap,
    "weighted": Weighted,
    "pk": PK,
}
