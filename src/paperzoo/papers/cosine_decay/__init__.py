"""Warm-up, then cosine or step decay (Goyal et al., 2017; Loshchilov & Hutter, ICLR 2017; He et al., CVPR 2019)."""

from paperzoo.papers import resnet as _networks  # noqa: F401 - it is tried on these
from paperzoo.papers.cosine_decay.schedules import cosine, step_decay

__all__ = ["cosine", "step_decay"]
