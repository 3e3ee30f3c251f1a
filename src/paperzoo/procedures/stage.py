"""Stages: each has its rows, its cost and its exact state, and a kill within or between them loses nothing.

A procedure yields its stages one by one and gets back what each came to::

    def stages(self, config):
        yield Training("train")
        counts = yield Prune("prune", share=0.5)          # a Loop, or a Training with prepare=
        yield Training("fine-tune", epochs=2, prepare=apply_masks)

What comes back (``outcome``) is plain data or tensors. It is kept in the exact state, so that a resumed run goes
through the stages that it has done without doing them again.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor


@dataclass
class Stage:
    """One part of a run.

    Args:
        name: in the record and the rows.
        prepare: ``(module, data) -> None`` before it, such as masks or a new head. A resumed run calls it again for
            every stage up to the one that it goes on with, and then loads what the exact state holds: it may add
            parameters and buffers, and must draw no other random numbers than torch's.
        outcome: ``(module, data) -> plain`` after it.
    """

    name: str
    prepare: Callable[[Any, Any], None] | None = None
    outcome: Callable[[Any, Any], Any] | None = None

    kind: ClassVar[str] = ""


@dataclass
class Training(Stage):
    """A fit of the run's module.

    Args:
        epochs: None: ``trainer.max_epochs``.
        changes: of the groups ``optimizer`` and ``scheduler`` for this stage, as in ``conf/``.
        weights: (N,) of the training samples in the loss, None: all alike.
        view: indices of the training samples that it is restricted to, None: all.
    """

    epochs: int | None = None
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    weights: Tensor | None = None
    view: Tensor | None = None

    kind: ClassVar[str] = "fit"


@dataclass
class Loop(Stage, ABC):
    """Ask and tell: what to try next, its value, and so on until there is nothing left to ask.

    Between a ``tell`` and the next ``ask`` the state is saved when it is time: ``state_dict`` must hold, as plain
    data, all that the loop has learned. Every rank asks, tries and tells the same.
    """

    kind: ClassVar[str] = "loop"

    @abstractmethod
    def ask(self) -> Any:
        """What to try next; None when it is done."""

    @abstractmethod
    def evaluate(self, module: Any, data: Any, candidate: Any) -> Mapping[str, float]:
        """What a candidate is worth: the numbers of its row."""

    @abstractmethod
    def tell(self, candidate: Any, values: Mapping[str, float]) -> None:
        """Learn from it."""

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """All that it has learned."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


class Procedure(ABC):
    """What ``conf/procedure/*.yaml`` names; its keys are its arguments."""

    single: ClassVar[bool] = False  # whether it is one fit: then rows have no stage

    @abstractmethod
    def stages(self, config: Any) -> Generator[Stage, Any, None]:
        """The stages of a run, each yielded when the one before has ended."""
