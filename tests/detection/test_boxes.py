"""Boxes, anchors, matching and sampling against loops, torchvision and cases computed by hand."""

import math

import naive_boxes as naive
import pytest
import torch
import torchvision
from torchvision.models.detection._utils import BoxCoder, Matcher

from paperzoo.detection import anchors, boxes, matching, sampling


def drawn(count, seed=0, size=100.0):
    random = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=random, dtype=torch.float64) * size
    sides = torch.rand(count, 2, generator=random, dtype=torch.float64) * size / 2 + 2
    return torch.cat([corner, corner + sides], dim=1)


def test_iou_equals_a_loop_and_torchvision():
    a, b = drawn(30), drawn(40, 1)
    expected = torch.tensor([[naive.iou(x, y) for y in b.tolist()] for x in a.tolist()], dtype=torch.float64)
    torch.testing.assert_close(boxes.iou(a, b), expected)
    torch.testing.assert_close(boxes.iou(a, b), torchvision.ops.box_iou(a, b))


def test_iou_by_hand_and_of_boxes_without_area():
    a = torch.tensor([[0.0, 0, 4, 4], [1, 1, 1, 5]])
    b = torch.tensor([[2.0, 2, 6, 6], [4, 0, 8, 4], [1, 1, 1, 5]])
    assert boxes.iou(a, b).tolist() == [[pytest.approx(4 / 28), 0, 0], [0, 0, 0]]
    assert boxes.iou(a[:0], b).shape == (0, 3)


STDS = (0.05, 0.05, 0.1, 0.1)


def test_coding_equals_a_loop_and_torchvision():
    a, b = drawn(20), drawn(20, 1)
    expected = [naive.encode(x, y, STDS) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    codes = boxes.encode(a, b, STDS)
    torch.testing.assert_close(codes, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(codes, BoxCoder([1 / s for s in STDS]).encode([b], [a])[0])
    torch.testing.assert_close(boxes.decode(a, codes, STDS), b)


def test_decoding_of_classes_equals_a_loop():
    a = drawn(10)
    deltas = torch.randn(10, 12, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3
    found = boxes.decode(a, deltas, STDS)
    for row, box, moves in zip(found, a.tolist(), deltas, strict=True):
        for k in range(3):
            expected = naive.decode(box, moves[4 * k : 4 * k + 4], STDS)
            assert row[4 * k : 4 * k + 4].tolist() == pytest.approx(expected)


def test_sides_are_clamped_both_ways():
    box = torch.tensor([[0.0, 0, 10, 10]], dtype=torch.float64)
    sides = [
        (moved[0, 2] - moved[0, 0]).item()
        for moved in (boxes.decode(box, torch.tensor([[0, 0, d, d]], dtype=torch.float64)) for d in (9.0, -9.0))
    ]
    assert sides == [pytest.approx(625), pytest.approx(0.16)]  # 10 * 62.5, 10 / 62.5


def test_clip_is_to_the_edges_and_takes_height_first():
    found = boxes.clip(torch.tensor([[-3.0, -2, 120, 90, 5, 6, 7, 101]]), (80, 100))
    assert found.tolist() == [[0, 0, 100, 80, 5, 6, 7, 80]]


def test_anchors_by_hand():
    base = anchors.base_anchors(32)  # not rounded
    w, h = 32 / math.sqrt(0.5) / 2, 32 * math.sqrt(0.5) / 2
    torch.testing.assert_close(base, torch.tensor([[-w, -h, w, h], [-16, -16, 16, 16], [-h, -w, h, w]]))
    grid = anchors.grid_anchors(base, (2, 3), 4).view(2, 3, 3, 4)
    torch.testing.assert_close(grid[1, 2], base + torch.tensor([8.0, 4, 8, 4]))


def test_inside_leaves_out_what_touches_the_far_edges():
    own = torch.tensor([[0.0, 0, 9.9, 9.9], [0, 0, 10, 5], [-0.1, 0, 5, 5], [0, 0, 5, 8]])
    assert anchors.inside(own, (8, 10), 0).tolist() == [False, False, False, False]
    assert anchors.inside(own, (10, 10), 0).tolist() == [True, False, False, True]
    assert anchors.inside(own, (8, 10), -1).all()
    assert anchors.inside(own, (8, 10), 2).tolist() == [True, True, True, True]


@pytest.mark.parametrize("low_quality", [False, True])
@pytest.mark.parametrize(("positive", "negative", "minimum"), [(0.7, 0.3, 0.3), (0.5, 0.5, 0.5)])
def test_matching_equals_a_loop(positive, negative, minimum, low_quality):
    truth, own = drawn(12), drawn(200, 1)
    found = matching.match(boxes.iou(truth, own), positive, negative, minimum, low_quality)
    assert found.tolist() == naive.match(truth.tolist(), own.tolist(), positive, negative, minimum, low_quality)


def test_matching_equals_torchvisions_where_no_minimum_counts():
    """Theirs gives a box back to the object that it overlaps most, ours to the object that takes it."""
    truth, own = drawn(8), drawn(300, 1)
    overlaps = boxes.iou(truth, own)
    theirs = Matcher(0.5, 0.3, allow_low_quality_matches=False)(overlaps)
    assert matching.match(overlaps, 0.5, 0.3).tolist() == theirs.tolist()  # -1 background, -2 between, in both


def test_matching_is_inclusive_and_the_later_object_takes_a_box():
    overlaps = torch.tensor([[0.5, 0.2, 0.4, 0.1], [0.3, 0.3, 0.4, 0.1]])
    assert matching.match(overlaps, 0.5, 0.5).tolist() == [0, -1, -1, -1]
    assert matching.match(overlaps, 0.5, 0.3).tolist() == [0, -2, -2, -1]
    assert matching.match(overlaps, 0.5, 0.3, 0.35, True).tolist() == [0, -2, 1, -1]
    tie = torch.tensor([[0.6, 0.6], [0.6, 0.2]])
    assert matching.match(tie, 0.5, 0.5, None, True).tolist() == [1, 0]


def test_matching_without_objects_or_boxes():
    assert matching.match(torch.zeros(0, 3), 0.5, 0.5, None, True).tolist() == [-1, -1, -1]
    assert matching.match(torch.zeros(2, 0), 0.5, 0.5, None, True).tolist() == []


def test_sampling_takes_parts_in_order_and_never_what_is_ignored():
    matches = torch.tensor([3, -2, -1, 0, 1, -1, -1, 2, -2, -1])
    found, empty = sampling.sample(matches, 6, 0.5, "first")
    assert (found.tolist(), empty.tolist()) == ([0, 3, 4], [2, 5, 6])
    torch.manual_seed(0)
    seen = set()
    for _ in range(60):
        found, empty = sampling.sample(matches, 6, 0.5)
        assert found.tolist() == sorted(set(found.tolist()))
        assert len(found) == len(empty) == 3
        assert empty.tolist() == sorted(set(empty.tolist()))
        assert set(found.tolist()) <= {0, 3, 4, 7}
        assert set(empty.tolist()) <= {2, 5, 6, 9}
        seen |= {*found.tolist(), *empty.tolist()}
    assert seen == {0, 2, 3, 4, 5, 6, 7, 9}
    with pytest.raises(ValueError, match="sampling=last: must be one of random, first"):
        sampling.choose(matches, 1, "last")


@pytest.mark.parametrize("low_quality", [False, True])
def test_regions_equal_a_loop(low_quality):
    truth, own = drawn(6), drawn(150, 1)
    own[:3] = truth[1:4] + 0.5
    stage = sampling.Stage(0.5, low_quality=low_quality, size=40, positives=0.25)
    found = sampling.sample_regions(own, truth, stage, "first")
    matches = list(range(6)) + naive.match(truth.tolist(), own.tolist(), 0.5, 0.5, 0.5, low_quality)
    positive, negative = naive.first(matches, 40, 0.25)
    every = torch.cat([truth, own])
    assert len(found.boxes) == 40
    assert len(positive) < 40
    assert torch.equal(found.boxes, every[positive + negative])
    assert found.truth.tolist() == [matches[i] for i in positive]
    assert found.added.tolist() == [i < 6 for i in positive]


def test_regions_of_an_image_without_objects_or_proposals():
    stage = sampling.Stage(size=8)
    found = sampling.sample_regions(drawn(5), drawn(0), stage)
    assert len(found.boxes) == 5
    assert not len(found.truth)
    found = sampling.sample_regions(drawn(0), drawn(1), stage)
    assert found.truth.tolist() == [0]
    assert found.added.tolist() == [True]
    targets = [{"labels": torch.tensor([4])}]
    assert sampling.region_labels([found], targets, 9).tolist() == [4]
