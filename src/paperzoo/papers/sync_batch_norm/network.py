"""ResNet with the paper's normalisation in place of its own."""

from typing import Any

from timm.models import generate_default_cfgs, register_model
from timm.models.resnet import resnet50
from torch import nn

from paperzoo.networks.small import small_configs
from paperzoo.norms import SyncBatchNorm, convert
from paperzoo.papers.resnet import resnet_small

default_cfgs = small_configs("sync_batch_norm_small") | generate_default_cfgs({"sync_batch_norm_resnet50": {}})


@register_model
def sync_batch_norm_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """The small ResNet."""
    return convert(resnet_small(pretrained, **options), SyncBatchNorm)


@register_model
def sync_batch_norm_resnet50(pretrained: bool = False, **options: Any) -> nn.Module:
    """ResNet-50."""
    return convert(resnet50(pretrained, **options), SyncBatchNorm)
