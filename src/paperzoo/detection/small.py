"""The size of detectors for images of about a hundred pixels, which train in minutes on two cores."""

from collections.abc import Mapping
from typing import Any

TRUNK = "test_resnet"  # timm's smallest ResNet of four stages
DENSE: dict[str, Any] = {
    "backbone": TRUNK,
    "channels": 32,
    "frozen_stages": 0,  # its weights are drawn
    "norm_eval": False,
}
OF_REGIONS: dict[str, Any] = {"hidden": 256, "anchor_scale": 4.0, "proposals": 200, "regions": 24}


FEWER = {"max_detections": 30}  # given to ``detect`` by default: there are few objects on such images


def small(options: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """``options`` over those of a small detector of two stages, and ``own`` in between."""
    return small_dense(options, **{**OF_REGIONS, **own})


def small_dense(options: Mapping[str, Any], **own: Any) -> dict[str, Any]:
    """``options`` over those of a small detector without regions, and ``own`` in between."""
    return with_branches({**DENSE, **own, **options})


def with_branches(options: dict[str, Any]) -> dict[str, Any]:
    """``options`` of a network with ``TRUNK``, whose residual branches start to learn at once.

    Timm would start each at zero, where the layers before its last get no gradient at first.
    """
    return {"zero_init_last": False, **options} if options["backbone"] == TRUNK else options
