"""The options of learning-rate schedules and of timm's optimisers: see ``schedules.py`` and ``optimizers.py``."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from paperzoo.config.schema import Count, Fraction, Optimizer, Scheduler
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
        """Milestones are within the run."""
        if not self.milestones or self.gamma is None:
            raise UserError("scheduler=step: needs scheduler.milestones (epochs) and scheduler.gamma")
        epochs = config.trainer.max_epochs
        late = [milestone for milestone in self.milestones if milestone >= epochs]
        if late:
            listed = ",".join(f"{milestone:g}" for milestone in self.milestones)
            raise UserError(f"scheduler.milestones=[{listed}]: {late[0]:g} is not before trainer.max_epochs={epochs}")


class Poly(Constant):
    """A power of what is left."""

    power: Annotated[float, Field(gt=0)] | None = None


class Plateau(Constant):
    """A factor whenever the task's first metric on validation has not improved for some epochs."""

    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1
    patience: Count = 2  # epochs without improvement that are waited for


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
    "from_timm": Timm,
}
