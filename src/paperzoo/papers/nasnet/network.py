"""NASNet-A: the two cells stacked, for CIFAR, ImageNet, and small; 6 @ 768 has 6 normal cells a stage, 24 F = 768."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch.nn.functional as F
from timm.layers import LayerType, create_classifier, get_norm_layer
from timm.models import build_model_with_cfg, checkpoint, generate_default_cfgs, register_model
from torch import Tensor, nn

from paperzoo.errors import UserError
from paperzoo.norms import needs_two
from paperzoo.papers.nasnet.cell import NORMAL, REDUCTION, Cell, Genotype
from paperzoo.papers.nasnet.drop_path import ScheduledDropPath, keep_of_cell

STAGES = 3
NUMBERS = 6  # the authors' file has six numbers for the cells of a stage, also where it has fewer cells
# Decays of 0.9997 and 0.9 in TensorFlow's terms.
IMAGENET_NORM = partial(nn.BatchNorm2d, eps=1e-3, momentum=3e-4)
CIFAR_NORM = partial(nn.BatchNorm2d, eps=1e-5, momentum=0.1)


class AuxiliaryHead(nn.Module):
    """A second classifier, on the last cell of the second stage; trains the cells below it, and is then left away.

    Args:
        chans: C of the map.
        grid: pixels that the last convolution sees, 4 x 4 of a 32-pixel CIFAR image or a 224-pixel ImageNet image. Maps
            of other sizes are averaged to it.
    """

    def __init__(self, chans: int, num_classes: int, grid: int, norm_layer: Callable[..., nn.Module]) -> None:
        super().__init__()
        self.grid = grid
        self.proj = nn.Conv2d(chans, 128, 1, bias=False)
        self.proj_bn = norm_layer(128)
        self.conv = nn.Conv2d(128, 768, grid, bias=False)
        self.bn = norm_layer(768)
        self.fc = nn.Linear(768, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, K)."""
        window = [min(5, size) for size in x.shape[2:]]
        x = F.relu(self.proj_bn(self.proj(F.avg_pool2d(F.relu(x), window, 3))))
        x = F.adaptive_avg_pool2d(x, self.grid)  # nothing to do at the sizes of the paper
        return self.fc(F.relu(self.bn(self.conv(x))).flatten(1))  # (B, 768, 1, 1) -> (B, K)


class NASNetA(nn.Module):
    """Three stages of normal cells with a reduction cell between them; ImageNet's form begins with two more.

    Args:
        cells: N, normal cells a stage.
        filters: F of the first stage; each reduction cell doubles it.
        stem_filters: channels of the 3x3 convolution that comes first; None is 3F.
        imagenet: that convolution has stride 2, and two reduction cells with F/4 and F/2 follow.
        skip_reduction: the cell after a reduction cell takes, as its second input, what the reduction cell took.
        keep: probability to keep a path in the last cell at the end of training (ScheduledDropPath).
        auxiliary: add the auxiliary head (``forward_both``).
        grid: its last convolution's size.
        num_classes: 0 leaves the classifier away.
        in_chans: channels of the images.
        global_pool: timm's name of the pooling before the classifier.
        drop_rate: dropout before the classifier.
        norm_layer: of all cells.

    Raises:
        UserError: there would be no cell or a cell without channels.
    """

    def __init__(
        self,
        cells: int,
        filters: int,
        stem_filters: int | None = None,
        imagenet: bool = False,
        skip_reduction: bool = False,
        keep: float = 1.0,
        auxiliary: bool = False,
        grid: int = 4,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        norm_layer: LayerType = nn.BatchNorm2d,
    ) -> None:
        super().__init__()
        if cells < 1 or in_chans < 1 or filters < (8 if imagenet else 2):
            raise UserError(
                f"model.cells={cells}, model.filters={filters}, {in_chans} image channels: a NASNet-A needs 1 cell, "
                f"{8 if imagenet else 2} filters and 1 image channel at least"
            )
        self.in_chans, self.num_classes = in_chans, num_classes
        self.skip_reduction, self.grad_checkpointing = skip_reduction, False
        self.norm_layer = get_norm_layer(norm_layer)
        stem_filters = 3 * filters if stem_filters is None else stem_filters
        # The stem needs no padding for ImageNet ("VALID").
        self.conv0 = nn.Sequential()
        self.conv0.add_module(
            "conv",
            nn.Conv2d(in_chans, stem_filters, 3, 2 if imagenet else 1, 0 if imagenet else 1, bias=False),
        )
        self.conv0.add_module("bn", self.norm_layer(stem_filters))
        self._stack(cells, filters, stem_filters, imagenet, keep)
        self.act = nn.ReLU()
        chans = self._map[0]
        self.feature_info.append({"num_chs": chans, "reduction": self._map[1], "module": "act"})
        self.num_features = self.head_hidden_size = chans
        self.global_pool, self.head_drop, self.last_linear = create_classifier(
            chans, num_classes, pool_type=global_pool, drop_rate=drop_rate
        )
        self.aux_head: AuxiliaryHead | None = None
        if auxiliary:
            chans = self.feature_info[-2]["num_chs"]
            self.aux_head = AuxiliaryHead(chans, num_classes, grid, self.norm_layer)
        self._initialise()

    def _stack(self, cells: int, filters: int, stem_filters: int, imagenet: bool, keep: float) -> None:
        """Make the cells in the order in which they compute; ``_map``: channels and scale of what is there so far."""
        self.cell_names: list[str] = []
        self.feature_info: list[dict[str, Any]] = []
        self._map = self._map_before = (stem_filters, 2 if imagenet else 1)
        self._total, self._keep = STAGES * cells + (4 if imagenet else 2), keep
        self.feature_info.append({"num_chs": stem_filters, "reduction": self._map[1], "module": "conv0"})
        if imagenet:
            self._add("cell_stem_0", REDUCTION, filters // 4)
            self._tap("cell_stem_1")
            self._add("cell_stem_1", REDUCTION, filters // 2)
        step = max(NUMBERS, cells)
        for stage in range(STAGES):
            if stage:
                self._tap(f"reduction_cell_{stage - 1}")
                self._add(f"reduction_cell_{stage - 1}", REDUCTION, filters << stage)
            for index in range(cells):
                self._add(f"cell_{stage * step + index}", NORMAL, filters << stage)

    def _add(self, name: str, genotype: Genotype, filters: int) -> None:
        (chans, scale), (chans_before, scale_before) = self._map, self._map_before
        stride = 2 if genotype is REDUCTION else 1
        before = "project" if scale == scale_before else "reduce"
        before = before if self.cell_names else "raw"
        keep = keep_of_cell(self._keep, len(self.cell_names), self._total)
        self.add_module(name, Cell(genotype, chans, chans_before, filters, stride, before, self.norm_layer, keep))
        self.cell_names.append(name)
        if not self._skips(name):
            self._map_before = self._map
        self._map = (filters * genotype.expansion, scale * stride)

    def _tap(self, name: str) -> None:
        """The output so far is a feature map: as the next cell rectifies it."""
        chans, scale = self._map
        self.feature_info.append({"num_chs": chans, "reduction": scale, "module": f"{name}.conv_1x1.act"})

    def _skips(self, name: str) -> bool:
        """Whether the next cell's second input is this one's, too."""
        return self.skip_reduction and name.startswith("reduction_cell")

    def _initialise(self) -> None:
        """He's initialisation for rectifiers; a depthwise kernel reaches one channel."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.weight[0, 0].numel() * module.out_channels // module.groups
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5)

    def get_classifier(self, name_only: bool = False) -> nn.Module | str:
        """The last layer, or its name."""
        return "last_linear" if name_only else self.last_linear

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the last layer, the auxiliary head's as well."""
        weight = self.conv0.get_parameter("conv.weight")
        place: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
        self.num_classes = num_classes
        pool_type = self.global_pool.pool_type if global_pool is None else global_pool
        self.global_pool, self.last_linear = create_classifier(
            self.num_features, num_classes, pool_type=pool_type, **place
        )
        if self.aux_head is not None:
            self.aux_head.fc = nn.Linear(self.aux_head.fc.in_features, num_classes, **place)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Compute activations twice instead of keeping them."""
        self.grad_checkpointing = enable

    def set_progress(self, progress: float) -> None:
        """Tell ScheduledDropPath how much of the training is done, from 0 to 1."""
        for module in self.modules():
            if isinstance(module, ScheduledDropPath):
                module.progress.fill_(min(1.0, progress))

    def forward_features(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 24 F, H/32, W/32), for CIFAR H/4 and W/4; rounded up."""
        return self._run(images)[0]

    def _run(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features, and the last map of the second stage."""
        self._demand_room(images)
        x = before = middle = self.conv0(images)
        for name in self.cell_names:
            cell = getattr(self, name)
            middle = x if name == f"reduction_cell_{STAGES - 2}" else middle
            y = checkpoint(cell, x, before) if self.grad_checkpointing and self.training else cell(x, before)
            before = before if self._skips(name) else x
            x = y
        return self.act(x), middle

    def _demand_room(self, images: Tensor) -> None:
        """The stem needs three pixels, and batch normalisation cannot train on one number per channel."""
        size, shown = images.shape[2:], "x".join(map(str, images.shape[2:]))
        conv: Any = self.conv0.get_submodule("conv")
        if min(size) + 2 * conv.padding[0] < 3:
            raise UserError(f"NASNet-A: images of {shown}: the stem needs at least 3x3 pixels")
        if not self.training or len(images) > 1:
            return
        scale = self.feature_info[-1]["reduction"] // conv.stride[0]
        if max((n + 2 * conv.padding[0] - 3) // conv.stride[0] + 1 for n in size) > scale:
            return
        if any(needs_two(module) for module in self.modules()):
            raise UserError(
                f"NASNet-A: an image of {shown} comes to a last map of 1x1: a batch of 1 leaves BatchNorm one number"
                " per channel; train on a batch of at least 2, or on larger images"
            )

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Features -> (B, num_classes), or the pooled features."""
        pooled = self.head_drop(self.global_pool(features))  # (B, 24 F)
        return pooled if pre_logits else self.last_linear(pooled)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, num_classes)."""
        return self.forward_head(self.forward_features(images))

    def forward_both(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> (B, num_classes) of the classifier and of the auxiliary head."""
        assert self.aux_head is not None
        features, middle = self._run(images)
        return self.forward_head(features), self.aux_head(middle)


def _config(imagenet: bool, size: int, pool: int) -> dict[str, Any]:
    """What timm knows of about a network; there are no weights to download."""
    mean = std = (0.5, 0.5, 0.5)
    return {
        "url": "", "num_classes": 1000 if imagenet else 10, "input_size": (3, size, size), "pool_size": (pool, pool),
        "mean": mean, "std": std, "first_conv": "conv0.conv", "classifier": "last_linear",
    }  # fmt: skip


default_cfgs = generate_default_cfgs(
    {
        "nasnet_small": _config(False, 32, 8),
        "nasnet_a_6_768": _config(False, 32, 8),
        "nasnet_a_7_2304": _config(False, 32, 8),
        "nasnet_a_mobile": _config(True, 224, 7),
        "nasnet_a_large": _config(True, 331, 11),
    }
)


def _create(variant: str, pretrained: bool, options: dict[str, Any], **plan: Any) -> nn.Module:
    maps = 5 if plan.get("imagenet") else 4
    features = {"feature_cls": "hook", "no_rewrite": True, "out_indices": tuple(range(maps))}
    return build_model_with_cfg(NASNetA, variant, pretrained, feature_cfg=features, **plan | options)


@register_model
def nasnet_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """CIFAR's form with ``cells`` 1 and ``filters`` 10 by default: resnet_small's MACs."""
    return _create("nasnet_small", pretrained, options, cells=1, filters=10, num_classes=10, norm_layer=CIFAR_NORM)


@register_model
def nasnet_a_6_768(pretrained: bool = False, **options: Any) -> nn.Module:
    """NASNet-A (6 @ 768) for CIFAR-10."""
    plan = {"cells": 6, "filters": 32, "keep": 0.6, "num_classes": 10, "norm_layer": CIFAR_NORM}
    return _create("nasnet_a_6_768", pretrained, options, **plan)


@register_model
def nasnet_a_7_2304(pretrained: bool = False, **options: Any) -> nn.Module:
    """NASNet-A (7 @ 2304) for CIFAR-10."""
    plan = {"cells": 7, "filters": 96, "keep": 0.6, "num_classes": 10, "norm_layer": CIFAR_NORM}
    return _create("nasnet_a_7_2304", pretrained, options, **plan)


@register_model
def nasnet_a_mobile(pretrained: bool = False, **options: Any) -> nn.Module:
    """NASNet-A (4 @ 1056): 5,289,978 parameters, 568 M MACs."""
    plan = {"cells": 4, "filters": 44, "stem_filters": 32, "imagenet": True, "norm_layer": IMAGENET_NORM}
    return _create("nasnet_a_mobile", pretrained, options, **plan)


@register_model
def nasnet_a_large(pretrained: bool = False, **options: Any) -> nn.Module:
    """NASNet-A (6 @ 4032): 88,753,150 parameters, 23.8 G MACs at 331 x 331."""
    plan = {
        "cells": 6, "filters": 168, "stem_filters": 96, "imagenet": True, "skip_reduction": True, "keep": 0.7,
        "drop_rate": 0.5, "grid": 6, "norm_layer": IMAGENET_NORM,
    }  # fmt: skip
    return _create("nasnet_a_large", pretrained, options, **plan)
