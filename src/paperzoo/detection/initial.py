"""Initial values of layers; biases are zero."""

from typing import Any

from torch import nn


def he(*layers: Any) -> None:
    """Kaiming normal by the number of outputs, for layers that a rectifier follows."""
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(layer.bias)


def xavier(*layers: Any) -> None:
    """Xavier uniform."""
    for layer in layers:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)


def normal(std: float, *layers: Any) -> None:
    """Normal of this deviation."""
    for layer in layers:
        nn.init.normal_(layer.weight, std=std)
        nn.init.zeros_(layer.bias)
