"""The characters of a text as a run's data."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from paperzoo.config import build
from paperzoo.data.fingerprint import fingerprint
from paperzoo.data.interface import Batch, RunData, sequence_of
from paperzoo.data.order import Order
from paperzoo.data.text.sources import Text
from paperzoo.data.text.streams import Chunks, EvaluationLoader, TrainLoader
from paperzoo.errors import UserError


class TextData(RunData):
    """A text, the first part to train on, then validation, then test; a sample is a chunk of ``length`` characters.

    The vocabulary has every character of the whole text, so that none is unknown. After ``setup``: ``vocabulary``,
    ``parts`` (codes (N,) int64 by split), ``sizes`` (chunks).
    """

    def setup(self, stage: str | None = None) -> None:
        """Read, encode, split. A second call does nothing.

        Raises:
            UserError: the text is missing, or a part of it is too short for its batches.
        """
        if hasattr(self, "parts"):
            return
        found: Text = build(self.config.source, self.config, self.data_dir)
        self.note = found.note
        codes = np.frombuffer(found.content.encode("utf-32-le"), dtype=np.uint32)
        letters, places = np.unique(codes, return_inverse=True)
        self.vocabulary = "".join(map(chr, letters.tolist()))
        whole = torch.from_numpy(places.astype(np.int64))
        shares = (1 - self.config.validation - self.config.test, 1 - self.config.test)
        ends = [int(len(whole) * share + 1e-6) for share in shares]  # 0.9 of a text is not 0.8999...
        train = whole[: ends[0]][: self.config.limit_train]
        self.parts: dict[str, Tensor] = {"train": train, "val": whole[ends[0] : ends[1]], "test": whole[ends[1] :]}
        self.sizes = {name: (len(part) - 1) // self.config.length for name, part in self.parts.items()}
        self._check_sizes()

    def _check_sizes(self) -> None:
        rows = self.config.batch_size * self.world_size
        if self.sizes["train"] < rows:
            raise UserError(
                f"data.batch_size={self.config.batch_size}: {rows} streams of {self.config.length} characters need "
                f"{rows * self.config.length + 1:,}, the training part has {len(self.parts['train']):,}; lower "
                "data.batch_size or data.length"
            )
        for name in ("val", "test"):
            if len(self.parts[name]) <= self.config.eval_streams:
                raise UserError(
                    f"data.eval_streams={self.config.eval_streams}: the {name} part has {len(self.parts[name])} "
                    "characters; lower it"
                )

    @cached_property
    def fingerprint(self) -> str:
        """Of the vocabulary and the parts."""
        content: list[Any] = ["text", self.vocabulary]
        for name, part in self.parts.items():
            content += [name, part.numpy()]
        return fingerprint(content)

    @property
    def info(self) -> dict[str, Any]:
        """What a network is built from: K characters in the order of their codes, and T."""
        return {"vocabulary": self.vocabulary, "length": self.config.length}

    @property
    def description(self) -> str:
        """One line for the summary."""
        counts = ", ".join(f"{len(part):,} {name}" for name, part in self.parts.items())
        note = f"; {self.note}" if self.note else ""
        return f"{self.config.name} ({counts} characters, {len(self.vocabulary)} different ones{note})"

    def train_dataloader(self) -> TrainLoader:
        """The training chunks of this rank, from where a resumed run stopped."""
        order = Order(
            self.sizes["train"],
            self.config.batch_size,
            seed=self.seed,
            rank=self.rank,
            ranks=self.world_size,
            drop_last=True,
            **sequence_of(self, self.sizes["train"], None),
        )
        loader: TrainLoader = self.order_of(TrainLoader(self.parts["train"], self.config.length, order))
        return loader

    def val_dataloader(self) -> EvaluationLoader:
        """Every character of the validation part once over the ranks."""
        return self._evaluation("val")

    def test_dataloader(self) -> EvaluationLoader:
        """Every character of the test part once over the ranks."""
        return self._evaluation("test")

    def _evaluation(self, name: str) -> EvaluationLoader:
        c = self.config
        return EvaluationLoader(
            self.parts[name], c.length, c.eval_streams, c.eval_batch_size, self.rank, self.world_size
        )

    def on_after_batch_transfer(self, batch: Chunks, dataloader_idx: int) -> Batch:
        """Characters (B, T), those that follow (B, T), the chunks' indices; in training with their weights."""
        training = self.trainer is not None and self.trainer.training
        return Batch(batch.inputs, batch.targets, batch.chunk, self.weights_of(batch.chunk) if training else None)
