"""Torchvision's ShuffleNet V2, another network than the authors', with one movement of the data per unit.

There a unit splits at its beginning and shuffles at its end, both branches of a strided unit give half of the output,
and the classifier has a bias. Keys of the state dict are torchvision's.
"""

from typing import Any

from timm.layers import LayerType, create_classifier, get_norm_layer
from timm.models import checkpoint_seq
from torch import Tensor, nn
from torchvision.models import shufflenetv2

from paperzoo.norms import convert
from paperzoo.papers.shufflenet_v1.channel_shuffle import memory_format
from paperzoo.papers.shufflenet_v1.network import REPEATS, demand_statistics
from paperzoo.papers.shufflenet_v2.halves import interleave


class InterleavedResidual(shufflenetv2.InvertedResidual):
    """Torchvision's unit: its concatenation and shuffle are one interleaving of the halves."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) -> (B, C_out, H / stride, W / stride), rounded up."""
        if self.stride > 1:
            return interleave(self.branch1(x), self.branch2(x))
        passing, convolved = x.chunk(2, dim=1)
        convolved = convolved.contiguous(memory_format=memory_format(x))
        return interleave(passing, self.branch2(convolved))


class TorchvisionForm(shufflenetv2.ShuffleNetV2):
    """Torchvision's network with timm's habits.

    Args:
        stem: channels of the first convolution.
        stages: channels of stages 2, 3 and 4.
        last: channels of the last convolution.
        num_classes, in_chans, global_pool, drop_rate, norm_layer: as timm's networks take them.
    """

    fc: nn.Module

    def __init__(
        self,
        stem: int,
        stages: tuple[int, int, int],
        last: int,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        norm_layer: LayerType = nn.BatchNorm2d,
    ) -> None:
        super().__init__(list(REPEATS), [stem, *stages, last], inverted_residual=InterleavedResidual)
        if in_chans != 3:
            self.conv1[0] = nn.Conv2d(in_chans, stem, 3, 2, padding=1, bias=False)
        if norm_layer is not nn.BatchNorm2d:
            convert(self, get_norm_layer(norm_layer))
        self.grad_checkpointing = False
        self.num_features = self.head_hidden_size = last
        self.num_classes = num_classes
        self.feature_info = [
            {"num_chs": stem, "reduction": 2, "module": "conv1.2"},
            {"num_chs": stem, "reduction": 4, "module": "maxpool"},
        ]
        for stage, (chans, repeats) in enumerate(zip(stages, REPEATS, strict=True)):
            module = f"stage{stage + 2}.{repeats - 1}"
            self.feature_info.append({"num_chs": chans, "reduction": 8 << stage, "module": module})
        self.global_pool, self.fc = create_classifier(last, num_classes, pool_type=global_pool)
        self.drop = nn.Dropout(drop_rate)

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last layer, or its name."""
        return "fc" if name_only else self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer."""
        weight: Any = self.conv1[0].weight
        self.num_classes = num_classes
        pool_type = self.global_pool.pool_type if global_pool is None else global_pool
        self.global_pool, self.fc = create_classifier(
            self.num_features, num_classes, pool_type=pool_type, device=weight.device, dtype=weight.dtype
        )

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations twice instead of keeping them."""
        self.grad_checkpointing = enable

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_features, H / 32, W / 32), rounded up."""
        demand_statistics(self, images)
        x = self.maxpool(self.conv1(images))
        units = [*self.stage2, *self.stage3, *self.stage4]
        x = checkpoint_seq(units, x) if self.grad_checkpointing else self.stage4(self.stage3(self.stage2(x)))
        return self.conv5(x)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> (B, num_classes), or the pooled features."""
        pooled = self.drop(self.global_pool(features))  # (B, num_features)
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        return self.forward_head(self.forward_features(images))
