"""Hard negative mining against a loop over images that sorts."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from paperzoo.papers.ssd import hard_negatives


def naive(losses, positives, ratio):
    """The losses that are to be chosen, sorted, by image."""
    chosen = []
    for row, positive in zip(losses.tolist(), positives.tolist(), strict=True):
        negatives = sorted((x for x, p in zip(row, positive, strict=True) if not p), reverse=True)
        chosen.append(negatives[: min(int(ratio * sum(positive)), len(negatives))])
    return chosen


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 4), st.integers(0, 30), st.sampled_from([0, 1, 2.5, 3, 100]), st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    st.integers(0, 1000),
)  # fmt: skip
def test_exactly_the_largest_negatives_of_each_image(images, anchors, ratio, share, seed):
    torch.manual_seed(seed)
    losses = torch.randint(0, 6, (images, anchors)).double()  # many ties, many zeros
    positives = torch.rand(images, anchors) < share
    mask = hard_negatives(losses, positives, ratio)
    assert mask.dtype == torch.bool
    assert mask.shape == losses.shape
    assert not (mask & positives).any()
    for row, chosen, expected in zip(losses, mask, naive(losses, positives, ratio), strict=True):
        assert sorted(row[chosen].tolist(), reverse=True) == expected


def test_losses_of_zero_and_of_minus_infinity_are_still_no_positives():
    positives = torch.tensor([[True, False, False, True, False]])
    for value in (0.0, -float("inf"), -1e30):
        mask = hard_negatives(torch.full((1, 5), value), positives)
        assert mask.tolist() == [[False, True, True, False, True]]


def test_an_image_without_positives_gives_none():
    mask = hard_negatives(torch.rand(2, 8), torch.tensor([[False] * 8, [True] + [False] * 7]))
    assert mask.sum(1).tolist() == [0, 3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_dtype_no_gradient_and_nothing_in_place(dtype):
    losses = torch.arange(8, dtype=dtype).view(1, 8).requires_grad_()
    before = losses.clone()
    positives = torch.zeros(1, 8, dtype=torch.bool)
    positives[0, 7] = True
    mask = hard_negatives(losses, positives, ratio=2)
    assert mask.tolist() == [[False] * 5 + [True] * 2 + [False]]
    assert not mask.requires_grad
    assert torch.equal(losses, before)


def test_bad_arguments_are_named():
    with pytest.raises(TypeError, match="int64"):
        hard_negatives(torch.rand(1, 3), torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="must both be"):
        hard_negatives(torch.rand(1, 3), torch.zeros(1, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="ratio=-1"):
        hard_negatives(torch.rand(1, 3), torch.zeros(1, 3, dtype=torch.bool), -1)
