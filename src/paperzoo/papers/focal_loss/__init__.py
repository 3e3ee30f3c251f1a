"""Focal Loss for Dense Object Detection (Lin et al., ICCV 2017)."""

from paperzoo.papers import resnet as _networks  # noqa: F401 - it is tried on these
from paperzoo.papers.focal_loss.focal_loss import (
    FocalLoss,
    linear_focal_loss,
    over_positives,
    prior_bias,
    set_prior,
    sigmoid_focal_loss,
    softmax_focal_loss,
)

__all__ = [
    "FocalLoss",
    "linear_focal_loss",
    "over_positives",
    "prior_bias",
    "set_prior",
    "sigmoid_focal_loss",
    "softmax_focal_loss",
]
