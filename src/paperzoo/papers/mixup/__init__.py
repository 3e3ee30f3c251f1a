"""mixup: Beyond Empirical Risk Minimization (Zhang et al., ICLR 2018)."""

from paperzoo.papers.mixup.mixup import Mixup

__all__ = ["Mixup"]
