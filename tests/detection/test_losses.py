"""Losses by hand and by loops; proposals and their losses written out."""

import math

import naive_boxes as naive
import pytest
import torch

from paperzoo.detection import losses
from paperzoo.detection.rpn import RPN, RPNSettings, flattened

EPS = 2.0**-23


def test_classification_by_hand():
    logits = torch.tensor([[0.0, 0, 0], [math.log(2), 0, 0]], dtype=torch.float64)
    expected = (math.log(3) + math.log(4)) / (2 + EPS)
    found = losses.classification_loss(logits, torch.tensor([1, 2]))
    assert found.item() == pytest.approx(expected, rel=1e-12)
    assert losses.classification_loss(logits[:0], torch.zeros(0, dtype=torch.int64)).item() == 0


@pytest.mark.parametrize(
    ("beta", "expected"), [(0, 0.25 + 2 + 0.5), (1, 0.25**2 / 2 + 1.5 + 0.125), (0.25, 0.125 + 1.875 + 0.375)]
)
def test_box_loss_by_hand(beta, expected):
    deltas = torch.tensor([[0.25, 0, -2, 0.5]], dtype=torch.float64)
    found = losses.box_loss(deltas, torch.zeros_like(deltas), 10, beta)
    assert found.item() == pytest.approx(expected / (10 + EPS), rel=1e-12)


def test_mask_loss_reads_the_own_classs_channel():
    logits = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    targets = (torch.rand(3, 5, 5, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    labels = torch.tensor([2, 0, 3])
    every = [
        naive.binary_cross_entropy(logits[i, labels[i], y, x], float(targets[i, y, x]))
        for i in range(3)
        for y in range(5)
        for x in range(5)
    ]
    assert losses.mask_loss(logits, labels, targets).item() == pytest.approx(sum(every) / 75, rel=1e-12)
    none = logits[:0].requires_grad_()
    empty = losses.mask_loss(none, labels[:0], targets[:0])
    empty.backward()
    assert empty.item() == 0
    assert none.grad.shape == none.shape


def test_flattened_has_rows_columns_anchors():
    maps = torch.arange(2 * 6 * 3 * 4).view(2, 6, 3, 4)
    found = flattened(maps, 2).view(2, 3, 4, 3, 2)
    for b, y, x, a, n in [(0, 0, 0, 0, 1), (1, 2, 3, 2, 0), (0, 1, 2, 1, 1)]:
        assert found[b, y, x, a, n] == maps[b, a * 2 + n, y, x]


SIZES = [(64, 96), (50, 70)]


def rpn(**changes):
    torch.manual_seed(0)
    settings = RPNSettings(before_nms=(30, 40), after_nms=(10, 12), size=24, **changes)
    head = RPN(4, [8, 16, 32], settings).double()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    features = [torch.randn(2, 4, 64 // s, 96 // s, dtype=torch.float64) for s in (8, 16, 32)]
    return head, *head(features)


def anchors_of(head, scores):
    """(level, row, column, anchor, box), in order."""
    found = []
    for level, (stride, maps) in enumerate(zip(head.strides, scores, strict=True)):
        for y in range(maps.shape[2]):
            for x in range(maps.shape[3]):
                for a, ratio in enumerate((0.5, 1, 2)):
                    w, h = 8 * stride / math.sqrt(ratio), 8 * stride * math.sqrt(ratio)
                    box = [x * stride - w / 2, y * stride - h / 2, x * stride + w / 2, y * stride + h / 2]
                    found.append((level, y, x, a, box))
    return found


@pytest.mark.parametrize("training", [False, True])
def test_proposals_equal_a_loop(training):
    head, scores, deltas = rpn()
    found = head.proposals(scores, deltas, SIZES, training)
    before, after = head.settings.before_nms[training], head.settings.after_nms[training]
    for image, size in enumerate(SIZES):
        kept = []
        for wanted in range(3):
            rows = []
            for level, y, x, a, box in anchors_of(head, scores):
                if level == wanted:
                    score = 1 / (1 + math.exp(-float(scores[level][image, a, y, x])))
                    moves = deltas[level][image, 4 * a : 4 * a + 4, y, x]
                    rows.append((score, naive.decode(box, moves, (1, 1, 1, 1), size)))
            rows = sorted(rows, key=lambda row: -row[0])[:before]
            rows = [row for row in rows if row[1][2] > row[1][0] and row[1][3] > row[1][1]]
            kept += [rows[i] for i in naive.nms([box for _, box in rows], [score for score, _ in rows], 0.7)]
        expected = [box for _, box in sorted(kept, key=lambda row: -row[0])][:after]
        assert len(expected) == after
        torch.testing.assert_close(found[image], torch.tensor(expected, dtype=torch.float64))
        assert not found[image].requires_grad


@pytest.mark.parametrize(("border", "beta"), [(0, 1 / 9), (-1, 0)])
def test_losses_of_proposals_equal_a_loop(border, beta):
    head, scores, deltas = rpn(border=border, beta=beta)
    targets = [
        {"boxes": torch.tensor([[10.0, 8, 60, 55], [40, 20, 90, 60], [3, 3, 9, 8]])},
        {"boxes": torch.zeros(0, 4)},
    ]
    every = anchors_of(head, scores)
    objectness = moved = 0.0
    count = 0
    for image, (size, target) in enumerate(zip(SIZES, targets, strict=True)):
        truth = target["boxes"].double().tolist()
        inside = [
            i
            for i, (*_, (x1, y1, x2, y2)) in enumerate(every)
            if border < 0 or (x1 >= 0 and y1 >= 0 and x2 < size[1] and y2 < size[0])
        ]
        matches = naive.match(truth, [every[i][4] for i in inside], 0.7, 0.3, 0.3, True)
        positive, negative = naive.first(matches, 24, 0.5)
        count += max(1, len(positive)) + max(1, len(negative))
        for j in positive + negative:
            level, y, x, a, box = every[inside[j]]
            objectness += naive.binary_cross_entropy(scores[level][image, a, y, x], float(matches[j] >= 0))
            if matches[j] >= 0:
                code = naive.encode(box, truth[matches[j]], (1, 1, 1, 1))
                for c in range(4):
                    difference = float(deltas[level][image, 4 * a + c, y, x]) - code[c]
                    moved += naive.smooth_l1(difference, beta) if beta else abs(difference)
    found = head.losses(scores, deltas, SIZES, targets, "first")
    assert moved > 0
    assert found["rpn_objectness"].item() == pytest.approx(objectness / count, rel=1e-6)
    assert found["rpn_box"].item() == pytest.approx(moved / count, rel=1e-6)
