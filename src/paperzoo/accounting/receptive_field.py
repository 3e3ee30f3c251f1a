"""What a pixel of a feature map sees of the image."""

from collections.abc import Callable, Iterable
from functools import reduce
from math import inf
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from paperzoo.accounting.network import first_tensor, image_for, tensors, watched
from paperzoo.errors import UserError

aten: Any = torch.ops.aten


class Field(NamedTuple):
    """Along one dimension, pixel i of a map sees the image's pixels from i * stride + low to i * stride + high.

    It is the smallest such window that holds what any pixel sees; after an upsampling some pixels see less of it. A
    border cuts it off.
    """

    low: float = 0
    high: float = 0
    stride: float = 1  # pixels of the image from one pixel of the map to the next

    @property
    def size(self) -> float:
        """Pixels; infinite is all of the image."""
        return self.high - self.low + 1

    def window(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "Field":
        """After a convolution or pooling: its pixel i reads from i * stride - padding on."""
        if self == WHOLE:
            return self
        first, last = -padding, dilation * (kernel - 1) - padding
        return Field(self.low + first * self.stride, self.high + last * self.stride, self.stride * stride)

    def transposed(self, kernel: int, stride: int = 1, padding: int = 0, dilation: int = 1) -> "Field":
        """After a transposed convolution: its pixel o reads pixels i with o = i * stride - padding + dilation * k."""
        if self == WHOLE:
            return self
        step = self.stride / stride
        return Field(self.low + (padding - dilation * (kernel - 1)) * step, self.high + padding * step, step)

    def union(self, other: "Field") -> "Field":
        """Of two maps of one size; a number for all pixels has stride infinity, and the other's holds."""
        return Field(min(self.low, other.low), max(self.high, other.high), min(self.stride, other.stride))


WHOLE = Field(-inf, inf, inf)
Fields = tuple[Field, Field]  # of height and width


def of_chain(layers: Iterable[dict[str, int]]) -> Field:
    """After convolutions and poolings one after the other, each the arguments of ``Field.window``.

    ``of_chain([{"kernel": 7, "stride": 2, "padding": 3}, {"kernel": 3}])``.
    """
    field = Field()
    for layer in layers:
        field = field.window(**layer)
    return field


def receptive_field(network: nn.Module, input_size: tuple[int, int, int], method: str = "forward") -> Fields:
    """The field of a network's output, along height and width, from one forward pass in evaluation mode.

    Branches are united; whatever passes a global pooling has seen all of the image.

    Args:
        network: takes (1, C, H, W) and gives one map.
        input_size: (C, H, W).
        method: the network's that makes the map: ``forward_features`` is before the pooling and classifier.

    Raises:
        UserError: the output does not depend on the image, or an operation that changes the size has no rule here.
    """
    image = image_for(network, input_size)
    fields: dict[int, Fields] = {id(image): (Field(), Field())}
    alive = [image]  # an id is a tensor's only while it lives

    def note(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        inputs = [tensor for tensor in tensors((args, kwargs)) if id(tensor) in fields]
        if inputs:
            seen = _after(operation, args, inputs, reduce(_united, (fields[id(tensor)] for tensor in inputs)), result)
            alive.extend(made := tensors(result))
            fields.update({id(tensor): seen for tensor in made})

    with watched(network, note):
        output = (network if method == "forward" else getattr(network, method))(image)
    if not isinstance(output, Tensor) or id(output) not in fields:
        raise UserError(f"{type(network).__name__}.{method}: gives no map that depends on the image")
    return fields[id(output)]


def _united(one: Fields, other: Fields) -> Fields:
    return one[0].union(other[0]), one[1].union(other[1])


def _after(operation: Any, args: tuple[Any, ...], inputs: list[Tensor], seen: Fields, result: Any) -> Fields:
    """The fields after an operation; where there is no rule, each pixel sees what those in its place did."""
    rule, output = RULES.get(operation.overloadpacket), first_tensor(result)
    if rule is not None:
        return rule(seen, args, output)
    sizes = [tensor.shape[-2:] for tensor in inputs]
    if output is None or operation.is_view or output.shape[-2:] in (*sizes, _broadcast(sizes)):
        return seen
    if all(field.size == inf for field in seen):
        return WHOLE, WHOLE
    raise UserError(f"receptive field: there is no rule for {operation}, which changes the size of a map")


def _broadcast(sizes: list[torch.Size]) -> torch.Size | None:
    """Of a row and a column of numbers the map that they make; None where sizes do not go together."""
    try:
        return torch.broadcast_shapes(*sizes)
    except RuntimeError:
        return None


def _both(numbers: Any) -> tuple[int, int]:
    """A setting of height and width; torch gives one number for both."""
    return (numbers[0], numbers[-1])


def _convolution(seen: Fields, args: tuple[Any, ...], output: Any) -> Fields:
    settings = zip(args[1].shape[-2:], *map(_both, args[3:6]), strict=True)  # kernel, stride, padding, dilation
    high, wide = (
        (field.transposed if args[6] else field.window)(*setting) for field, setting in zip(seen, settings, strict=True)
    )
    return high, wide


def _pool(seen: Fields, args: tuple[Any, ...], output: Any, dilation: Any = (1,)) -> Fields:
    kernel = args[1]
    stride = args[2] if len(args) > 2 and args[2] else kernel
    padding = args[3] if len(args) > 3 else [0]
    settings = zip(seen, _both(kernel), _both(stride), _both(padding), _both(dilation), strict=True)
    high, wide = (field.window(*setting) for field, *setting in settings)
    return high, wide


def _max_pool(seen: Fields, args: tuple[Any, ...], output: Any) -> Fields:
    return _pool(seen, args, output, dilation=args[4] if len(args) > 4 else (1,))


def _resize(seen: Fields, args: tuple[Any, ...], output: Tensor) -> Fields:
    """To a multiple by nearest neighbours, or to a fraction by means: windows side by side."""
    fields = []
    for field, before, after in zip(seen, args[0].shape[-2:], output.shape[-2:], strict=True):
        if after == 1 < before:
            fields.append(WHOLE)
        elif before % after and after % before:
            raise UserError(
                f"receptive field: windows differ where {before} pixels become {after}; take another image size"
            )
        else:
            factor = max(before, after) // min(before, after)
            fields.append(field.transposed(factor, factor) if after > before else field.window(factor, factor))
    return fields[0], fields[1]


def _pad(seen: Fields, args: tuple[Any, ...], output: Any) -> Fields:
    left, top = args[1][0], args[1][2] if len(args[1]) > 2 else 0
    return seen[0].window(1, padding=top), seen[1].window(1, padding=left)


def _slice(seen: Fields, args: tuple[Any, ...], output: Any) -> Fields:
    _, dim, start, _, step = (*args, *(0, 0, None, 1)[len(args) - 1 :]) if len(args) < 5 else args
    image = args[0]
    begin = (start or 0) + (image.shape[dim] if (start or 0) < 0 else 0)
    along = dim % image.dim() - image.dim() + 2  # 0 is height, 1 is width
    high, wide = (
        field.window(1, step, padding=-begin) if index == along else field for index, field in enumerate(seen)
    )
    return high, wide


def _reduce(seen: Fields, args: tuple[Any, ...], output: Any) -> Fields:
    """A mean, sum or maximum over dimensions; over height or width, it has seen all of that."""
    dims = args[1] if len(args) > 1 and args[1] is not None else []
    dims = [dims] if isinstance(dims, int) else dims
    count = args[0].dim()
    over = {dim % count - count + 2 for dim in dims} or {0, 1}
    return (WHOLE if 0 in over else seen[0]), (WHOLE if 1 in over else seen[1])


def _whole(seen: Fields, args: tuple[Any, ...], output: Any) -> Fields:
    return WHOLE, WHOLE


RULES: dict[Any, Callable[[Fields, tuple[Any, ...], Any], Fields]] = {
    aten.convolution: _convolution,
    aten.avg_pool2d: _pool,
    aten.max_pool2d_with_indices: _max_pool,
    aten.upsample_nearest2d: _resize,
    aten._adaptive_avg_pool2d: _resize,
    aten.adaptive_max_pool2d: _resize,
    aten.constant_pad_nd: _pad,
    aten.slice: _slice,
    aten.native_group_norm: _whole,
} | dict.fromkeys(
    (aten.mean, aten.sum, aten.amax, aten.amin, aten.var, aten.var_mean, aten._softmax, aten.argmax), _reduce
)
