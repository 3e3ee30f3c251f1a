"""The options of samplers: see ``samplers.py``."""

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from paperzoo.config.schema import Count, Positive, Sampler
from paperzoo.errors import UserError


class Plain(Sampler):
    """Shuffled, sequential: no options."""

    model_config = ConfigDict(extra="forbid")


class ClassBalanced(Plain):
    """Every class as likely."""

    labels: ClassVar = True


class Bootstrap(Plain):
    """Drawn with replacement."""

    draw: Count = 0  # which bootstrap sample: members of an ensemble take 0, 1, 2, ...


class Weighted(Plain):
    """Drawn by weight."""

    class_weights: list[Annotated[float, Field(ge=0)]] | None = None
    file: str | None = None  # .npy of (N,)

    def needs_labels(self) -> bool:
        """Weights of classes do."""
        return self.class_weights is not None

    def check(self, config: Any) -> None:
        """Weights are given, in one way."""
        if (self.class_weights is None) == (self.file is None):
            raise UserError("sampler=weighted: give sampler.class_weights or sampler.file, one of the two")


class PK(Plain):
    """P identities with K samples each."""

    labels: ClassVar = True

    k: Positive = 4


SCHEMAS = {
    "shuffled": Plain,
    "sequential": Plain,
    "class_balanced": ClassBalanced,
    "bootstrap": Bootstrap,
    "weighted": Weighted,
    "pk": PK,
}
