"""One training: what a run does unless ``procedure`` says otherwise."""

from collections.abc import Generator
from typing import Any, ClassVar

from paperzoo.procedures.stage import Procedure, Stage, Training


class Fit(Procedure):
    """Train for ``trainer.max_epochs``."""

    single: ClassVar[bool] = True

    def stages(self, config: Any) -> Generator[Stage, Any, None]:
        """One."""
        yield Training("fit")
