"""The options of ``schedules.py``, of ``optimizers.py`` (timm's) and of ``class_weights.py``."""

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field

from paperzoo.config.schema import Count, Fraction, Loss, Optimizer, Scheduler
from paperzoo.errors import UserError


class Constant(Scheduler):
    """The base rate."""

    model_config = ConfigDict(extra="forbid")


class Cosine(Constant):
    """Half a cosine."""

    final: Fraction | None = None  # the factor at the end


class Step(Constant):
    """A factor at each milestone."""

    milestones: list[Annotated[float, Field(gt=0)]] | None = None  # epochs
    gamma: Annotated[float, Field(gt=0, le=1)] | None = None  # factor at each milestone

    def check(self, config: Any) -> None:
        """Milestones are given."""
        if not self.milestones or self.gamma is None:
            raise UserError("scheduler=step: needs scheduler.milestones (epochs) and scheduler.gamma")


class Poly(Constant):
    """A power of what is left."""

    power: Annotated[float, Field(gt=0)] | None = None


class Plateau(Constant):
    """A factor whenever the task's first metric on validation has not improved for some epochs."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Count = 2  # validations without improvement that are waited for


class OneCycle(Constant):
    """One rise and one fall."""

    pct_start: Annotated[float, Field(gt=0, lt=1)] = 0.3  # of the steps: the rise
    div_factor: Annotated[float, Field(ge=1)] = 25.0
    final_div_factor: Annotated[float, Field(ge=1)] = 1e4

    def check(self, config: Any) -> None:
        """It warms up by itself."""
        if self.warmup_epochs:
            raise UserError(
                f"scheduler.warmup_epochs={self.warmup_epochs:g}: scheduler=one_cycle rises by itself; use pct_start"
            )


class WeightedCrossEntropy(Loss):
    """Cross-entropy with a weight for each class."""

    model_config = ConfigDict(extra="forbid")
    tasks: ClassVar[tuple[str, ...]] = ("classification", "segmentation")
    why: ClassVar[str] = "has a weight for each class of images or pixels"

    class_weights: Annotated[list[Annotated[float, Field(ge=0)]], Field(min_length=2)] | None = None
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Timm(Optimizer):
    """An optimiser by timm's name."""

    model_config = ConfigDict(extra="forbid")

    opt: str
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=3)] | None = None
    eps: Annotated[float, Field(gt=0)] | None = None


SCHEMAS: dict[str, type[Any]] = {
    "constant": Constant,
    "cosine": Cosine,
    "step": Step,
    "poly": Poly,
    "plateau": Plateau,
    "one_cycle": OneCycle,
    "WeightedCrossEntropy": WeightedCrossEntropy,
    "from_timm": Timm,
}
