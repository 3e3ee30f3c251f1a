"""Jaccard index and IoU against set arithmetic, torchmetrics, torchvision and a loop."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from torchmetrics.functional.classification import binary_jaccard_index

from paperzoo.metrics import box_iou, jaccard_distance, jaccard_index


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_sets_and_masks_agree(a, b):
    expected = len(a & b) / len(a | b) if a | b else 1.0
    masks = [np.isin(np.arange(10), list(s)).reshape(2, 5) for s in (a, b)]
    tensors = [torch.from_numpy(mask) for mask in masks]
    assert jaccard_index(a, b) == jaccard_index(*masks) == expected
    assert jaccard_index(frozenset(a), b) == expected
    assert float(jaccard_index(*tensors)) == expected
    assert jaccard_distance(a, b) == 1 - expected
    assert float(jaccard_distance(*tensors)) == float(jaccard_distance(*masks)) == 1 - expected
    if a | b:
        assert float(binary_jaccard_index(*tensors)) == pytest.approx(expected, abs=1e-6)


def test_it_is_a_distance():
    torch.manual_seed(0)
    masks = [torch.rand(40) < share for share in torch.rand(12)]
    for a in masks:
        assert float(jaccard_distance(a, a)) == 0
        for b in masks:
            assert float(jaccard_distance(a, b)) == float(jaccard_distance(b, a))
            for c in masks:
                assert jaccard_distance(a, c) <= jaccard_distance(a, b) + jaccard_distance(b, c) + 1e-12


def test_nothing_is_equal_to_nothing():
    nothing = [(set(), set()), (np.zeros(0, bool), np.zeros(0, bool)), (torch.zeros(3, dtype=torch.bool),) * 2]
    for a, b in nothing:
        assert float(jaccard_index(a, b)) == 1
        assert float(jaccard_distance(a, b)) == 0
    assert jaccard_index(set(), {1}) == 0


def test_what_is_neither_is_refused():
    with pytest.raises(ValueError, match=r"\(3,\) and \(4,\)"):
        jaccard_index(np.zeros(3, bool), np.zeros(4, bool))
    with pytest.raises(ValueError, match=r"\(1, 4\) and \(4,\)"):  # no broadcasting
        jaccard_index(torch.zeros(1, 4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool))
    for wrong in ([True, False], torch.tensor([0, 1]), np.array([0.5, 1.0]), "ab", {1}):
        with pytest.raises(TypeError, match="must be a set, or a boolean array"):
            jaccard_index(wrong, np.array([True, False]))


def drawn(n, seed):
    torch.manual_seed(seed)
    corners = torch.randint(0, 12, (n, 4), dtype=torch.float64)
    return torch.cat([corners[:, :2], corners[:, :2] + corners[:, 2:]], 1)  # some have no area


def naive(a, b):
    """One pair at a time."""
    both = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either > 0 else 0.0


def test_iou_against_a_loop_and_torchvision():
    a, b = drawn(30, 0), drawn(20, 1)
    found = box_iou(a, b)
    expected = torch.tensor([[naive(x, y) for y in b.tolist()] for x in a.tolist()], dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    sized = [boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)] for boxes in (a, b)]
    torch.testing.assert_close(box_iou(*sized), torchvision.ops.box_iou(*sized))


def test_boxes_without_area_and_without_number():
    point, turned, box = [3.0, 3, 3, 3], [5.0, 5, 2, 2], [0.0, 0, 10, 10]
    boxes = torch.tensor([point, turned, box], requires_grad=True)
    found = box_iou(boxes, boxes)
    assert found.tolist() == [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    found.sum().backward()
    assert boxes.grad.isfinite().all()
    for n, m in ((0, 3), (3, 0), (0, 0)):
        assert box_iou(torch.zeros(n, 4), torch.zeros(m, 4)).shape == (n, m)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept_and_half_does_not_overflow(dtype):
    boxes = torch.tensor([[0, 0, 512, 512], [0, 0, 1024, 512]], dtype=dtype)
    found = box_iou(boxes, boxes)
    assert found.dtype == dtype
    assert found.tolist() == [[1, 0.5], [0.5, 1]]


def test_integer_boxes_and_gradients():
    boxes = torch.tensor([[0, 0, 2, 2], [1, 0, 3, 2]])
    torch.testing.assert_close(box_iou(boxes, boxes)[0, 1], torch.tensor(1 / 3))
    a, b = torch.tensor([[0.0, 0, 2, 3]]).double(), torch.tensor([[1.0, 1, 4, 5]]).double()
    assert torch.autograd.gradcheck(box_iou, (a.requires_grad_(), b.requires_grad_()))
    with pytest.raises(ValueError, match=r"\(4,\)"):
        box_iou(torch.zeros(4), torch.zeros(1, 4))
