"""The options of what stands in this package itself: the logger."""

from typing import Literal

from pydantic import ConfigDict

from paperzoo.config.schema import Logger


class Wandb(Logger):
    """See ``tracking.Wandb``."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["auto", "offline", "online", "disabled"] | None = None
    project: str | None = None
    entity: str | None = None


SCHEMAS = {"Wandb": Wandb}
