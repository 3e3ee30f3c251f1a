"""What networks and convolutions cost and see: parameters, multiply-adds, memory accesses, speed, receptive field."""

from paperzoo.accounting import convolution
from paperzoo.accounting.network import Count, count, count_inputs
from paperzoo.accounting.receptive_field import Field, receptive_field

__all__ = ["Count", "Field", "convolution", "count", "count_inputs", "receptive_field"]
