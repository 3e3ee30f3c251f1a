"""Language modelling by characters: which one comes next, with a state that is carried from batch to batch."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from paperzoo.data.interface import Batch
from paperzoo.data.text.streams import PADDING
from paperzoo.distributed import gather
from paperzoo.errors import UserError
from paperzoo.metric import Metric
from paperzoo.randomness import generator
from paperzoo.tasks.running import Running
from paperzoo.tasks.task import Task, evaluating

SAMPLED = 400  # characters of the text at the end
SAMPLE = "sample.txt"
UNIT = 2**20  # training counts nats in whole parts of so many: their sums are exact in any order


class Carried:
    """The state at the end of the last batch, and of which chunks it is: truncated back-propagation's memory.

    A row goes on with its state if its chunk is the one after the row's last; else it begins with zeros. So an epoch's
    beginning, another order of chunks and an evaluation need no word of their own.
    """

    def __init__(self) -> None:
        self.chunk: Tensor | None = None  # (B,)
        self.state: Any = None  # nested tuples and lists of (B, H)

    def before(self, chunk: Tensor) -> Any:
        """The state that chunks (B,) begin with; None is zeros for all."""
        if self.chunk is None or self.chunk.shape != chunk.shape:
            return None
        goes_on = chunk == self.chunk + 1
        return tree_map(lambda part: torch.where(goes_on[:, None], part, 0), self.state)

    def after(self, chunk: Tensor, state: Any) -> None:
        """Keep the state that chunks (B,) ended with, without its graph."""
        self.chunk, self.state = chunk, tree_map(lambda part: part.detach(), state)

    def state_dict(self) -> dict[str, Any]:
        """Plain data, on the CPU."""
        return tree_map(lambda part: None if part is None else part.cpu(), {"chunk": self.chunk, "state": self.state})

    def load_state_dict(self, saved: Mapping[str, Any], device: torch.device) -> None:
        """Go on from there."""
        there = tree_map(lambda part: None if part is None else part.to(device), dict(saved))
        self.chunk, self.state = there["chunk"], there["state"]


class Language(Task):
    """A network ``(characters (B, T), state) -> (logits (B, T, K), state)``, trained by truncated back-propagation.

    Bits per character is the mean of -log2 p over every character of a split; perplexity is 2 to that power, here of a
    character. Both are of the plain cross-entropy, whatever loss is trained on.
    """

    metrics: ClassVar = (
        Metric("bpc", "min", label="bits per character"),
        Metric("perplexity", "min", label="perplexity of a character"),
    )
    unit: ClassVar = "character"

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.vocabulary: str = self.info["vocabulary"]
        self.training_state, self.evaluation_state = Carried(), Carried()
        self._saved_state: dict[str, Any] | None = None  # of the checkpoint that this run resumes from

    def forward(self, characters: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Logits (B, T, K) of the next characters, and the state after the last."""
        return self.network(characters, state)

    def example_inputs(self, data: Any) -> tuple[Any, ...]:
        """One character."""
        return (torch.zeros(1, 1, dtype=torch.int64),)

    def units(self, batch: Batch) -> int:
        """Characters of a batch."""
        return batch.targets.numel()

    # training

    def on_train_start(self) -> None:
        """Go on with a resumed run's state."""
        super().on_train_start()
        self.training_state = Carried()
        if self._saved_state is not None:
            self.training_state.load_state_dict(self._saved_state, self.device)
        self._saved_state = None

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The chosen loss, a mean over characters; ``loss=task`` is cross-entropy."""
        logits = self._carry(self.training_state, batch)
        flat, targets = logits.flatten(0, 1), batch.targets.flatten()  # (BT, K), (BT,)
        nats = nn.functional.cross_entropy(_wide(flat.detach()), targets, reduction="sum")
        assert self.running is not None
        self.running.count((nats.double() * UNIT).round().long()[None])
        return {"loss": self._mean_loss(flat, targets, batch.weights)}

    def _carry(self, carried: Carried, batch: Batch) -> Tensor:
        """Logits (B, T, K) of a batch that begins with a carried state; what it ends with is carried on."""
        assert batch.index is not None
        logits, state = self(batch.inputs, carried.before(batch.index))
        carried.after(batch.index, state)
        return logits

    def _mean_loss(self, flat: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        loss = self.loss or nn.functional.cross_entropy
        if weights is None:
            return loss(flat, targets)
        if self.loss is not None:
            raise UserError(f"{type(self.loss).__name__}: weighted texts need loss=task")
        each = nn.functional.cross_entropy(flat, targets, reduction="none").view(len(weights), -1)
        return (weights * each.mean(1)).sum() / len(weights)

    def make_running(self) -> Running:
        """The training metrics."""
        return RunningText(self.hparams["window"], self.device, places=1)

    # evaluation

    def on_validation_epoch_start(self) -> None:
        """Begin with zeros."""
        super().on_validation_epoch_start()
        self.evaluation_state = Carried()

    def evaluate(self, batch: Batch) -> None:
        """Add a batch: every character that is no padding."""
        logits = self._carry(self.evaluation_state, batch)
        targets = batch.targets.flatten()
        losses = nn.functional.cross_entropy(_wide(logits.flatten(0, 1)), targets, reduction="none")
        if bool((counted := targets != PADDING).any()):
            self.mean_losses.update(losses[counted].double())

    def compute(self, split: str) -> dict[str, float]:
        """Bits per character and perplexity from the mean cross-entropy in nats."""
        nats = float(self.mean_losses.compute())
        self.mean_losses.reset()
        return {"loss": nats, **_scores(nats)}

    # a text of its own

    @torch.no_grad()
    def sample(self, count: int, begin: str = "", temperature: float = 1.0) -> str:
        """``count`` characters, each drawn from the odds that the network gives it; the same weights draw the same.

        Args:
            count: of characters.
            begin: what the text begins with; nothing: the first character of the vocabulary, which is not shown.
            temperature: below 1 the likely ones become more so.

        Raises:
            ValueError: a character of ``begin`` is not in the vocabulary.
        """
        unknown = sorted(set(begin) - set(self.vocabulary))
        if unknown:
            raise ValueError(f"begin={begin!r}: {', '.join(map(repr, unknown))} is not in the vocabulary")
        chance = generator("sample")
        codes = [self.vocabulary.index(letter) for letter in begin or self.vocabulary[0]]
        drawn: list[int] = []
        with evaluating(self):
            logits, state = self(torch.tensor([codes], device=self.device))
            for _ in range(count):
                odds = (logits[0, -1].double().cpu() / temperature).softmax(0)
                drawn.append(int(torch.multinomial(odds, 1, generator=chance)))
                logits, state = self(torch.tensor([drawn[-1:]], device=self.device), state)
        return begin + "".join(self.vocabulary[code] for code in drawn)

    def figures(self, data: Any) -> Iterable[tuple[str, Figure]]:
        """None; the text that the network makes is printed, and written beside the record."""
        text = self.sample(SAMPLED)
        if self.place.folder is not None:
            (self.place.folder / SAMPLE).write_text(text + "\n", encoding="utf-8")
        print(f"\nsampled text ({SAMPLE})\n\n{text}")
        return ()

    # exact state

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep every rank's carried state."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["carried"] = gather(self.training_state.state_dict())

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Bring it back when training starts."""
        super().on_load_checkpoint(checkpoint)
        saved = checkpoint.get("carried")
        self._saved_state = saved[self.global_rank] if saved else None

    def forget_state(self) -> None:
        """The state that was carried, too."""
        super().forget_state()
        self._saved_state = None


class RunningText(Running):
    """The loss, and bits per character and perplexity of the plain cross-entropy."""

    def scores(self, sums: list[float], units: float) -> dict[str, float]:
        """Of the sum of nats."""
        return _scores(sums[0] / UNIT / units)


def _wide(logits: Tensor) -> Tensor:
    """At least float32."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _scores(nats: float) -> dict[str, float]:
    """Of a mean cross-entropy; a perplexity too large for a float is infinite."""
    return {"bpc": nats / math.log(2), "perplexity": math.exp(nats) if nats < 700 else math.inf}
