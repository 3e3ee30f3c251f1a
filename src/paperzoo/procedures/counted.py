"""A loop whose tries are numbered: its state is how many are done."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from paperzoo.procedures.stage import Loop


@dataclass
class Counted(Loop):
    """Tries 1, 2, ..., ``tries``. Without a try it is a stage for what is prepared and what comes of it."""

    tries: int = 0
    done: int = 0

    def ask(self) -> int | None:
        """The number of the next try."""
        return self.done + 1 if self.done < self.tries else None

    def evaluate(self, module: Any, data: Any, candidate: int) -> Mapping[str, float]:
        """A try's row: a loop that has tries says it."""
        raise NotImplementedError

    def tell(self, candidate: int, values: Mapping[str, float]) -> None:
        """One more is done."""
        self.done = candidate

    def state_dict(self) -> dict[str, Any]:
        """How many are done."""
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.done = int(state["done"])
