"""Normalisation layers: swapping them in any network, and synchronising them over the ranks."""

from paperzoo.norms.convert import convert, converted
from paperzoo.norms.instance import InstanceNorm2d
from paperzoo.norms.layers import Normalisation, is_norm
from paperzoo.norms.single import needs_two
from paperzoo.norms.sync import SyncBatchNorm

__all__ = ["InstanceNorm2d", "Normalisation", "SyncBatchNorm", "convert", "converted", "is_norm", "needs_two"]
