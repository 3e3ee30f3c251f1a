"""The Jaccard index |X ∩ Y| / |X ∪ Y| of sets, masks and boxes (Jaccard, 1912); on boxes it is called IoU.

The index of two empty sets is 1: they are equal. Two boxes without area have none in common that could be compared,
and their IoU is 0, so that a matcher never pairs them.
"""

from collections.abc import Set
from typing import Any

import numpy as np
import torch
from torch import Tensor


def jaccard_index(a: Any, b: Any) -> Any:
    """The index of two sets, or of two boolean arrays (numpy or torch) of one shape: masks, or labels of samples.

    Returns:
        A float; a float64 scalar tensor where a tensor was given.

    Raises:
        TypeError: neither sets nor boolean arrays.
        ValueError: arrays of different shapes.
    """
    if isinstance(a, Set) and isinstance(b, Set):
        return _ratio(len(a & b), len(a | b))
    a, b = _array(a), _array(b)
    if a.shape != b.shape:
        raise ValueError(f"arrays of shapes {tuple(a.shape)} and {tuple(b.shape)}: must be of one shape")
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        a, b = torch.as_tensor(a), torch.as_tensor(b)
        both, either = (a & b).sum(), (a | b).sum()
        return torch.where(either > 0, both.double() / either.clamp(min=1), 1.0)
    return _ratio(int(np.count_nonzero(a & b)), int(np.count_nonzero(a | b)))


def jaccard_distance(a: Any, b: Any) -> Any:
    """1 - ``jaccard_index``: a metric in the mathematical sense, 0 for equal sets, two empty ones among them."""
    return 1 - jaccard_index(a, b)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of every box of ``a`` (N, 4) with every box of ``b`` (M, 4): (N, M).

    Boxes are (x1, y1, x2, y2) in pixels, without +1. A box without area, or with its corners exchanged, has IoU 0
    with every box. Half precision is computed in float32: the area of 300 x 300 pixels is beyond float16.

    Raises:
        ValueError: the boxes are not (N, 4) and (M, 4).
    """
    for boxes in (a, b):
        if boxes.dim() != 2 or boxes.shape[1] != 4:
            raise ValueError(f"boxes of shape {tuple(boxes.shape)}: must be (N, 4), x1, y1, x2, y2")
    kind = torch.promote_types(a.dtype, b.dtype)
    kind = kind if kind.is_floating_point else torch.get_default_dtype()
    wide = torch.float32 if kind in (torch.float16, torch.bfloat16) else kind
    a, b = a.to(wide), b.to(wide)
    low = torch.maximum(a[:, None, :2], b[:, :2])  # (N, M, 2)
    high = torch.minimum(a[:, None, 2:], b[:, 2:])
    intersection = (high - low).clamp(min=0).prod(dim=2)  # (N, M)
    union = _area(a)[:, None] + _area(b) - intersection
    some = union > 0  # the division is safe for gradients, too
    return (torch.where(some, intersection, 0) / torch.where(some, union, 1)).to(kind)


def _area(boxes: Tensor) -> Tensor:
    """(N, 4) -> (N,)."""
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(dim=1)


def _array(value: Any) -> Any:
    """A boolean numpy array or tensor as it is; all else is refused, since 0.3 or "false" are no members."""
    if isinstance(value, Tensor) and value.dtype == torch.bool:
        return value
    if isinstance(value, np.ndarray) and value.dtype == np.bool_:
        return value
    kind = getattr(value, "dtype", None)
    given = f"{type(value).__name__} of {kind}" if kind is not None else type(value).__name__
    raise TypeError(f"{given}: must be a set, or a boolean array of numpy or torch")


def _ratio(both: int, either: int) -> float:
    return both / either if either else 1.0
