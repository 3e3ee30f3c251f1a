"""mixup: Beyond Empirical Risk Minimization (Zhang et al., ICLR 2018)."""

from paperzoo.papers import resnet as _networks  # noqa: F401 - it is tried on these
from paperzoo.papers.mixup.mixup import Mixup

__all__ = ["Mixup"]
