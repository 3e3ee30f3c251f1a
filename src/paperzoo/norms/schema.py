"""The options of the normalisation layers of this package."""

from typing import Annotated

from pydantic import ConfigDict, Field

from paperzoo.config.schema import Fraction, Norm


class Instance(Norm):
    """Over H and W of each image and channel."""

    model_config = ConfigDict(extra="forbid")

    eps: Annotated[float, Field(gt=0)] | None = None  # None keeps that of the layer that is replaced


class SyncBatch(Instance):
    """Over N, H and W of all ranks."""

    momentum: Fraction | None = None  # share of a batch in the running statistics


SCHEMAS = {"InstanceNorm2d": Instance, "SyncBatchNorm": SyncBatch}
