"""The LSTM's modules, one a task; importing their package has registered the networks."""

from collections.abc import Iterable
from typing import Any

import timm
import torch
from matplotlib.figure import Figure
from torch import nn

from paperzoo.errors import UserError
from paperzoo.papers.lstm import pictures
from paperzoo.tasks.language import Language
from paperzoo.tasks.sequences import SequenceClassification, SequenceRegression

CHARACTERS, SEQUENCE = "lstm_char", "lstm_sequence"
DRAWN = 80  # characters of the test text along which gates are drawn


class CharacterModel(Language):
    """Greff et al., 2017: a character model whose ``cell`` is one of the variants."""

    def make_network(self, options: dict[str, Any]) -> nn.Module:
        """From timm's registry, which leaves out options that are None."""
        name = options.pop("network")
        if name == SEQUENCE:
            raise UserError(f"model.network={name}: reads numbers, this data is of characters; use {CHARACTERS}")
        return timm.create_model(name, num_classes=len(self.info["vocabulary"]), **options)

    def figures(self, data: Any) -> Iterable[tuple[str, Figure]]:
        """What the task has, and the gates along the beginning of the test text."""
        yield from super().figures(data)
        codes = data.parts["test"][:DRAWN]
        text = "".join(self.vocabulary[code] for code in codes.tolist())
        with torch.no_grad():
            yield "gates", pictures.gates(self.network.activations(codes[None].to(self.device)), text)


def _network(network: str, inputs: int, outputs: int, embedding: int | None = None, **options: Any) -> nn.Module:
    """The network of sequences, whichever is named: the one of characters stands for the one upon the same cells.

    Raises:
        UserError: ``embedding`` is given.
    """
    if embedding is not None:
        raise UserError(f"model.embedding={embedding}: is of characters; this data is of numbers, leave it null")
    name = SEQUENCE if network == CHARACTERS else network
    return timm.create_model(name, inputs=inputs, num_classes=outputs, **options)


class SequenceClassifier(SequenceClassification):
    """The cells upon sequences that have a class."""

    def build_network(self, network: str, inputs: int, outputs: int, **options: Any) -> nn.Module:
        """From timm's registry, which leaves out options that are None."""
        return _network(network, inputs, outputs, **options)


class SequenceRegressor(SequenceRegression):
    """The cells upon sequences that have numbers as their answer."""

    def build_network(self, network: str, inputs: int, outputs: int, **options: Any) -> nn.Module:
        """From timm's registry, which leaves out options that are None."""
        return _network(network, inputs, outputs, **options)


# By the data's task, as conf/model/lstm.yaml names them.
language, sequence_classification, sequence_regression = CharacterModel, SequenceClassifier, SequenceRegressor
