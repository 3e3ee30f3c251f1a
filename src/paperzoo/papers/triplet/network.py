"""TriNet: a residual network whose classifier is replaced by two layers that give the embedding (Sec. 4.2)."""

from typing import Any

import torch
from timm.models import generate_default_cfgs, register_model
from timm.models.resnet import resnet50
from torch import Tensor, nn

from paperzoo.networks.small import small_configs
from paperzoo.papers.resnet import resnet_small

default_cfgs = small_configs("trinet_mini") | generate_default_cfgs({"trinet": {}})
EMBEDDING, HIDDEN = 128, 1024  # of TriNet


class FeatureNorm(nn.Module):
    """Batch normalisation of features (B, C), equal to torch's ``BatchNorm1d``, that ``norm=`` leaves alone.

    What replaces the layers of the trunk normalises maps; of a vector, instance normalisation would leave nothing.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C) -> (B, C)."""
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, training=self.training
        )


class EmbeddingNet(nn.Module):
    """Pooled features -> linear, batch normalisation, ReLU, linear -> embedding, not normalised to a length.

    Args:
        trunk: gives features (B, F), as timm's networks without classes do; has ``num_features``.
        embedding: D.
        hidden: units between.
    """

    def __init__(self, trunk: Any, embedding: int, hidden: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.num_classes = embedding
        self.hidden = nn.Linear(trunk.num_features, hidden)
        self.norm = FeatureNorm(hidden)
        self.act = nn.ReLU(inplace=True)
        self.embedding = nn.Linear(hidden, embedding)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, D)."""
        return self.embedding(self.act(self.norm(self.hidden(self.trunk(images)))))


@register_model
def trinet_mini(
    pretrained: bool = False, num_classes: int = 32, hidden: int = 64, in_chans: int = 3, **options: Any
) -> nn.Module:
    """On the small ResNet; ``num_classes`` is the size of the embedding."""
    return EmbeddingNet(resnet_small(num_classes=0, in_chans=in_chans, **_known(options)), num_classes, hidden)


@register_model
def trinet(
    pretrained: bool = False, num_classes: int = EMBEDDING, hidden: int = HIDDEN, in_chans: int = 3, **options: Any
) -> nn.Module:
    """The paper's: on ResNet-50; ``num_classes`` is the size of the embedding."""
    trunk = resnet50(num_classes=0, in_chans=in_chans, zero_init_last=False, **_known(options))
    return EmbeddingNet(trunk, num_classes, hidden)


def _known(options: dict[str, Any]) -> dict[str, Any]:
    """Without what timm hands to every network and a trunk of no weights has no use for."""
    return {key: value for key, value in options.items() if not key.startswith("pretrained")}
