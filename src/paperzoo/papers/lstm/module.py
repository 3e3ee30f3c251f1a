"""The LSTM's module; importing its package has registered the network."""

from collections.abc import Iterable
from typing import Any

import timm
import torch
from matplotlib.figure import Figure
from torch import nn

from paperzoo.papers.lstm import pictures
from paperzoo.tasks.language import Language

DRAWN = 80  # characters of the test text along which gates are drawn


class CharacterModel(Language):
    """Greff et al., 2017: a character model whose ``cell`` is one of the variants."""

    def make_network(self, options: dict[str, Any]) -> nn.Module:
        """From timm's registry, which leaves out options that are None."""
        return timm.create_model(options.pop("network"), num_classes=len(self.info["vocabulary"]), **options)

    def figures(self, data: Any) -> Iterable[tuple[str, Figure]]:
        """What the task has, and the gates along the beginning of the test text."""
        yield from super().figures(data)
        codes = data.parts["test"][:DRAWN]
        text = "".join(self.vocabulary[code] for code in codes.tolist())
        with torch.no_grad():
            yield "gates", pictures.gates(self.network.activations(codes[None].to(self.device)), text)
