"""The options of procedures, of moving averages and of early stopping."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field

from paperzoo.config.schema import Average, Positive, Procedure, Stopping


class Fit(Procedure):
    """One training has none."""

    model_config = ConfigDict(extra="forbid")


class MovingAverage(Average):
    """Of the weights, after optimiser steps."""

    model_config = ConfigDict(extra="forbid")

    decay: Annotated[float, Field(gt=0, lt=1)] = 0.999
    every_n_steps: Positive = 1


class EarlyStopping(Stopping):
    """On the task's first metric on validation."""

    model_config = ConfigDict(extra="forbid")

    patience: Positive = 5  # validations
    min_delta: Annotated[float, Field(ge=0)] = 0.0


SCHEMAS: dict[str, type[Any]] = {"Fit": Fit, "MovingAverage": MovingAverage, "EarlyStopping": EarlyStopping}
