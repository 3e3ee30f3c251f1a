"""Networks over recurrent cells: a model of characters, and one of sequences of numbers."""

from typing import Any

import torch
from timm.models import generate_default_cfgs, register_model
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.papers.lstm.cells import GRU, LSTM, Cell, CoupledLSTM, PeepholeLSTM

CELLS = ("lstm", "peephole", "coupled", "coupled_peephole", "gru")
HIDDEN, EMBEDDING = 128, 64

default_cfgs = generate_default_cfgs({"lstm_char": {}, "lstm_sequence": {}})


def make_cell(cell: str, inputs: int, hidden: int) -> Cell:
    """A cell by its name.

    Raises:
        UserError: there is no such cell.
    """
    if cell == "coupled_peephole":
        return CoupledLSTM(inputs, hidden, peephole=True)
    kinds: dict[str, type[Cell]] = {"lstm": LSTM, "peephole": PeepholeLSTM, "coupled": CoupledLSTM, "gru": GRU}
    if cell not in kinds:
        raise UserError(f"model.cell={cell}: must be one of {', '.join(CELLS)}")
    return kinds[cell](inputs, hidden)


class CharacterNetwork(nn.Module):
    """Characters are embedded, pass layers of cells, and a linear layer scores the next one.

    Args:
        num_classes: K, of the vocabulary.
        cell: one of ``CELLS``.
        hidden: H, of each layer.
        layers: of cells.
        embedding: numbers that stand for a character.
        forget_bias: what the forget gates' biases begin with beside torch's values (Gers et al., 2000, begin so that
            nothing is forgotten at first); the GRU has none.
        drop_rate: dropout of each layer's output.
    """

    cells: Any

    def __init__(
        self,
        num_classes: int,
        cell: str = "lstm",
        hidden: int = HIDDEN,
        layers: int = 1,
        embedding: int = EMBEDDING,
        forget_bias: float = 0.0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(num_classes, embedding)
        self.cells = nn.ModuleList(make_cell(cell, hidden if n else embedding, hidden) for n in range(layers))
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(hidden, num_classes)
        for each in self.cells:
            _add_forget_bias(each, forget_bias)

    def forward(self, characters: Tensor, state: Any = None) -> tuple[Tensor, list[Any]]:
        """Characters (B, T) -> logits (B, T, K), and the state of each layer."""
        x = self.embedding(characters.flatten(1).long()).transpose(0, 1)  # (T, B, E)
        states = []
        for cell, before in zip(self.cells, state or [None] * len(self.cells), strict=True):
            x, after = cell(x, before)
            x = self.dropout(x)
            states.append(after)
        return self.head(x.transpose(0, 1)), states

    @torch.no_grad()
    def activations(self, characters: Tensor) -> dict[str, Tensor]:
        """Gates and states of the last layer over characters (1, T): (T, H) each."""
        x = self.embedding(characters).transpose(0, 1)
        for cell in self.cells[:-1]:
            x, _ = cell(x)
        return {name: value[:, 0] for name, value in self.cells[-1].activations(x).items()}


@torch.no_grad()
def _add_forget_bias(cell: Cell, value: float) -> None:
    if "f" in cell.names:
        place = cell.names.index("f") * cell.hidden_size
        cell.bias_ih[place : place + cell.hidden_size] += value


class SequenceNetwork(nn.Module):
    """Sequences of numbers pass layers of cells, and a linear layer answers from the last layer's last output.

    Args:
        inputs: I, numbers of a step.
        num_classes: K, logits or numbers of the answer.
        cell, hidden, layers, forget_bias, drop_rate: as of ``CharacterNetwork``.
    """

    cells: Any

    def __init__(
        self,
        inputs: int,
        num_classes: int,
        cell: str = "lstm",
        hidden: int = HIDDEN,
        layers: int = 1,
        forget_bias: float = 0.0,
        drop_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.cells = nn.ModuleList(make_cell(cell, hidden if n else inputs, hidden) for n in range(layers))
        self.dropout = nn.Dropout(drop_rate)
        self.head = nn.Linear(hidden, num_classes)
        for each in self.cells:
            _add_forget_bias(each, forget_bias)

    def forward(self, sequences: Tensor) -> Tensor:
        """(B, T, I) -> (B, K)."""
        x = sequences.transpose(0, 1)  # (T, B, I)
        for cell in self.cells:
            x = self.dropout(cell(x)[0])
        return self.head(x[-1])

    @torch.no_grad()
    def activations(self, sequence: Tensor) -> dict[str, Tensor]:
        """Gates and states of the last layer over a sequence (1, T, I): (T, H) each."""
        x = sequence.transpose(0, 1)
        for cell in self.cells[:-1]:
            x, _ = cell(x)
        return {name: value[:, 0] for name, value in self.cells[-1].activations(x).items()}


NOT_OPTIONS = ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "in_chans")  # what timm gives to every network


@register_model
def lstm_char(pretrained: bool = False, **options: Any) -> nn.Module:
    """The character model; takes the options of ``CharacterNetwork``.

    Raises:
        UserError: weights are asked for, which nobody has published.
    """
    if pretrained:
        raise UserError("lstm_char: there are no published weights")
    return CharacterNetwork(**{name: value for name, value in options.items() if name not in NOT_OPTIONS})


@register_model
def lstm_sequence(pretrained: bool = False, inputs: int = 1, num_classes: int = 10, **options: Any) -> nn.Module:
    """The network of sequences; takes the options of ``SequenceNetwork``.

    Raises:
        UserError: weights are asked for, which nobody has published.
    """
    if pretrained:
        raise UserError("lstm_sequence: there are no published weights")
    own = {name: value for name, value in options.items() if name not in NOT_OPTIONS}
    return SequenceNetwork(inputs, num_classes, **own)
