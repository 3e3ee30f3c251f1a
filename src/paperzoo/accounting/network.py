"""What a network costs: parameters, multiply-adds, activations, memory accesses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

Result = Any  # what an operation returns: a tensor, or several

aten: Any = torch.ops.aten
NOTHING = {aten.empty, aten.empty_like, aten.new_empty, aten._unsafe_view, aten.lift_fresh}  # move no numbers


class Count(NamedTuple):
    """The cost of one image."""

    parameters: int
    macs: int  # multiply-adds of convolutions and matrix products, biases not counted; one multiply-add is one
    activations: int  # numbers that those put out
    accesses: int  # memory access cost of those: numbers of input, weights and biases read, of output written
    other_accesses: int  # numbers that all other operations read and write (element-wise, pooling, concatenation, ...)


def count(network: nn.Module, input_size: tuple[int, ...]) -> Count:
    """Count what a network costs on one image, by one forward pass of zeros in evaluation mode.

    Every operation is seen as torch dispatches it, so that functions count as layers do. Memory accesses are those
    of ShuffleNet V2 (Ma et al., 2018, Sec. 2): each number of each operand once, as if caches held all of one
    operation and nothing of the next. Views cost nothing, an operation in place reads and writes.

    The network is left as it was: modes, buffers, hooks, gradients. It may be on any device, ``meta`` too, which
    takes no memory and hardly any time.

    Args:
        network: takes (1, C, H, W).
        input_size: (C, H, W).
    """
    return count_inputs(network, (image_for(network, input_size),))


def count_inputs(network: nn.Module, inputs: tuple[Any, ...]) -> Count:
    """Likewise, of a network that is called with these inputs for one sample."""
    costs: list[tuple[int, int, int]] = []  # macs, activations, accesses
    others: list[int] = []

    def note(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Result) -> None:
        output, rule = first_tensor(result), MACS.get(operation.overloadpacket)
        if output is None or operation.is_view or operation.overloadpacket in NOTHING:
            return
        accesses = sum(tensor.numel() for tensor in tensors((args, kwargs))) + output.numel()
        if rule is None:
            others.append(accesses)
        else:
            costs.append((rule(args, output), output.numel(), accesses))

    with watched(network, note):
        network(*placed(network, inputs))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    macs, activations, accesses = (sum(column) for column in zip(*costs, strict=True)) if costs else (0, 0, 0)
    return Count(parameters, macs, activations, accesses, sum(others))


def placed(network: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Inputs on the network's device, floats in its type."""
    weight = next((p for p in network.parameters() if p.is_floating_point()), None)
    if weight is None:
        return inputs

    def there(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.to(weight.device, weight.dtype if value.is_floating_point() else None)

    return tuple(there(value) for value in inputs)


def _convolution_macs(args: tuple[Any, ...], output: Tensor) -> int:
    image, weight, transposed = args[0], args[1], args[6]
    # Each number of the output has seen a kernel; in a transposed one, each number of the input has met one.
    return (image if transposed else output).numel() * weight[0].numel()


def _lstm_macs(args: tuple[Any, ...], output: Tensor) -> int:
    sequence, *weights = args[:3]  # (T, B, C), of the input and of the state
    return sequence[..., 0].numel() * sum(weight.numel() for weight in weights)


def _product_macs(position: int) -> Callable[[tuple[Any, ...], Tensor], int]:
    return lambda args, output: output.numel() * args[position].shape[-1]


MACS: dict[Any, Callable[[tuple[Any, ...], Tensor], int]] = {
    aten.convolution: _convolution_macs,
    aten.mm: _product_macs(0),
    aten.bmm: _product_macs(0),
    aten.addmm: _product_macs(1),
    aten.baddbmm: _product_macs(1),
    aten.mv: _product_macs(0),
    aten.mkldnn_rnn_layer: _lstm_macs,  # an LSTM on a CPU; elsewhere it is made of products
}


class _Watch(TorchDispatchMode):
    """Calls ``note(operation, args, kwargs, result)`` after every operation."""

    def __init__(self, note: Callable[[Any, tuple[Any, ...], dict[str, Any], Result], None]) -> None:
        super().__init__()
        self.note = note

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Result:
        if not func.has_kernel_for_dispatch_key(torch._C.DispatchKey.CPU):
            with self:  # in inference mode what is composed of other operations comes whole
                parts = func.decompose(*args, **(kwargs or {}))
            if parts is not NotImplemented:
                return parts
        result = func(*args, **(kwargs or {}))
        self.note(func, args, kwargs or {}, result)
        return result


@contextmanager
def watched(network: nn.Module, note: Callable[[Any, tuple[Any, ...], dict[str, Any], Result], None]) -> Iterator[None]:
    """Evaluation mode without gradients, in which ``note(operation, args, kwargs, result)`` sees every operation."""
    with _evaluating(network), _unfused(), torch.no_grad(), _Watch(note):
        yield


@contextmanager
def _unfused() -> Iterator[None]:
    """Attention as the products that it is of, which fused kernels hide; then as before."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def image_for(network: nn.Module, input_size: tuple[int, ...]) -> Tensor:
    """(1, C, H, W) of zeros, on the network's device and in its type."""
    like = next(network.parameters(), torch.empty(0))
    return torch.zeros(1, *input_size, device=like.device, dtype=like.dtype)


def tensors(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dicts."""
    if isinstance(tree, Tensor):
        return [tree]
    inner = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, (tuple, list)) else ()
    return [tensor for part in inner for tensor in tensors(part)]


def first_tensor(result: Result) -> Tensor | None:
    """An operation's output: what else it returns (indices, statistics) is kept for its gradient."""
    return next(iter(tensors(result)), None)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode, then each module's own mode again: a network may be frozen in parts."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
