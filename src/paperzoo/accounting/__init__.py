"""What networks and convolutions cost and see: parameters, multiply-adds, memory accesses, speed, receptive field."""

from paperzoo.accounting import convolution
from paperzoo.accounting.network import Count, count
from paperzoo.accounting.receptive_field import Field, receptive_field

__all__ = ["Count", "Field", "convolution", "count", "receptive_field"]
