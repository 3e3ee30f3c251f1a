"""Members are trained together, or they are finished runs, which are not trained again: then their vote is counted."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from paperzoo.procedures import Procedure, Stage, Training
from paperzoo.procedures.counted import Counted
from paperzoo.tasks.ensembles import accuracy_of_first, demand_no_stream


class BaggingStages(Procedure):
    """One stage: a fit of all members, or the vote of finished runs (``model.members=[run:<id>, ...]``)."""

    single: ClassVar[bool] = True

    def stages(self, config: Any) -> Generator[Stage, Any, None]:
        """The one stage."""
        members = (config.model.model_extra or {}).get("members")
        if isinstance(members, list):
            yield Vote("vote", tries=len(members))
            return
        if members is not None:  # else another model's one fit
            demand_no_stream(config)
        yield Training("fit")


@dataclass
class Vote(Counted):
    """The accuracy on validation of the vote of the first member, the first two, and so on: a row for each."""

    def evaluate(self, module: Any, data: Any, candidate: int) -> Mapping[str, float]:
        """Of the first so many."""
        return {"members": float(candidate), "val/top1": accuracy_of_first(candidate, module, data)}
