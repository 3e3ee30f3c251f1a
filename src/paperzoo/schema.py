"""The options of what stands in this package itself: the loggers."""

from importlib.util import find_spec
from typing import Any, ClassVar, Literal

from pydantic import ConfigDict

from paperzoo.config.schema import Logger
from paperzoo.errors import UserError


class Wandb(Logger):
    """See ``tracking.Wandb``."""

    model_config = ConfigDict(extra="forbid")

    mode: Literal["auto", "offline", "online", "disabled"] | None = None
    project: str | None = None
    entity: str | None = None


class Optional(Logger):
    """A logger whose package comes with an extra of this one."""

    model_config = ConfigDict(extra="forbid")
    package: ClassVar[str]

    def check(self, config: Any) -> None:
        """The package is there, before there is a run folder."""
        if find_spec(self.package) is None:
            raise UserError(
                f'logger={self.name}: needs {self.package}, which is not installed; pip install "paperzoo[{self.name}]"'
            )


class TensorBoard(Optional):
    """See ``loggers.TensorBoard``."""

    package: ClassVar[str] = "tensorboard"


class MLflow(Optional):
    """See ``loggers.MLflow``."""

    package: ClassVar[str] = "mlflow"

    experiment: str = "paperzoo"
    tracking_uri: str | None = None


SCHEMAS = {"Wandb": Wandb, "TensorBoard": TensorBoard, "MLflow": MLflow}
