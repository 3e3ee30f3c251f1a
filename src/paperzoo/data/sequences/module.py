"""Sequences of numbers as a run's data."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

from torch import Tensor

from paperzoo.config import build
from paperzoo.data.fingerprint import fingerprint
from paperzoo.data.interface import Batch, RunData, sequence_of
from paperzoo.data.order import Order
from paperzoo.data.sequences.sources import Sequences


class Loaded(NamedTuple):
    """What a loader gives: sequences (B, T, I), their targets, and which ones these are (B,)."""

    inputs: Tensor
    targets: Tensor
    index: Tensor  # type: ignore[assignment]  # not the method of tuples


class SequenceData(RunData):
    """Sequences of one length with a class or with numbers to be answered; ``info`` has ``inputs`` and ``outputs``."""

    def setup(self, stage: str | None = None) -> None:
        """Draw or read them. A second call does nothing."""
        if hasattr(self, "found"):
            return
        self.found: Sequences = build(self.config.source, self.config, self.data_dir)
        self.sizes = {name: len(targets) for name, targets in self.found.targets.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Of inputs and targets."""
        content: list[Any] = ["sequences"]
        for name in self.found.inputs:
            content += [name, self.found.inputs[name].numpy(), self.found.targets[name].numpy()]
        return fingerprint(content)

    @property
    def info(self) -> dict[str, Any]:
        """I numbers a step, K numbers of an answer (logits of classes, where there are some), and T."""
        inputs, targets, names = self.found.inputs["train"], self.found.targets["train"], self.found.class_names
        plain = {"inputs": inputs.shape[2], "length": inputs.shape[1], "samples": self.sizes["train"]}
        return plain | (
            {"outputs": targets.shape[1]} if names is None else {"outputs": len(names), "class_names": names}
        )

    @property
    def description(self) -> str:
        """One line for the summary."""
        counts = ", ".join(f"{count:,} {name}" for name, count in self.sizes.items())
        return f"{self.config.name} ({counts} sequences of {self.info['length']} steps; {self.found.note})"

    def train_dataloader(self) -> "Loader":
        """The training sequences of this rank, from where a resumed run stopped."""
        labels = None if self.found.class_names is None else self.found.targets["train"]
        order = Order(
            self.sizes["train"],
            self.config.batch_size,
            seed=self.seed,
            rank=self.rank,
            ranks=self.world_size,
            drop_last=self.config.drop_last,
            **sequence_of(self, self.sizes["train"], labels),
        )
        loader: Loader = self.order_of(self._loader("train", order))
        return loader

    def plain_train_dataloader(self) -> "Loader":
        """Every training sequence once over the ranks, in order."""
        return self._evaluation("train")

    def val_dataloader(self) -> "Loader":
        """Every validation sequence once over the ranks."""
        return self._evaluation("val")

    def test_dataloader(self) -> "Loader":
        """Every test sequence once over the ranks."""
        return self._evaluation("test")

    def _evaluation(self, name: str) -> "Loader":
        order = Order(self.sizes[name], self.config.eval_batch_size, seed=None, rank=self.rank, ranks=self.world_size)
        return self._loader(name, order)

    def _loader(self, name: str, order: Order) -> "Loader":
        return Loader(self.found.inputs[name], self.found.targets[name], order)

    def on_after_batch_transfer(self, batch: Loaded, dataloader_idx: int) -> Batch:
        """In the run's precision; in training with the samples' weights."""
        training = self.trainer is not None and self.trainer.training
        inputs, targets = batch.inputs, batch.targets
        if self.trainer is not None and self.trainer.precision == "64-true":
            inputs, targets = inputs.double(), targets.double() if targets.is_floating_point() else targets
        return Batch(inputs, targets, batch.index, self.weights_of(batch.index) if training else None)


class Loader:
    """Sequences in an order; in training it goes on within an epoch."""

    def __init__(self, inputs: Tensor, targets: Tensor, order: Order) -> None:
        self.inputs, self.targets, self.order = inputs, targets, order
        self.sampler = order  # where Lightning looks for set_epoch
        self.batch_sampler = None  # Lightning asks for it

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[Loaded]:
        for index in self.order:
            if self.order.seed is not None:
                self.order.done += 1
            yield Loaded(self.inputs[index], self.targets[index], index)
