"""Features of regions, masks and suppression against loops and torchvision."""

import naive_boxes as naive
import numpy as np
import pytest
import torch
import torchvision
from pycocotools import mask as pycoco
from torchvision.ops.poolers import LevelMapper

from paperzoo.detection import masks, nms, pooling

RANDOM = np.random.default_rng(0)


def drawn(count, size, smallest=1.0, seed=0):
    random = np.random.default_rng(seed)
    corner = random.uniform(0, size * 0.7, (count, 2))
    sides = np.exp(random.uniform(np.log(smallest), np.log(size), (count, 2)))
    return torch.from_numpy(np.concatenate([corner, corner + sides], axis=1))


def test_levels_equal_a_loop_and_torchvision():
    own = drawn(500, 900, 4)
    found = pooling.levels_of(own, 4)
    assert found.tolist() == [naive.level(box, 4) for box in own.tolist()]
    assert set(found.tolist()) == {0, 1, 2, 3}
    assert found.tolist() == LevelMapper(2, 5)([own]).tolist()
    edges = torch.tensor([[0.0, 0, side, side] for side in (0, 55, 111, 112, 223.99, 224, 447, 448, 9999)])
    assert pooling.levels_of(edges, 4).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]  # 223.99: not within 1e-6 of the edge


def test_pooling_equals_a_loop():
    maps = [torch.from_numpy(RANDOM.normal(size=(2, 2, 32 >> i, 40 >> i))) for i in range(3)]
    own = [
        drawn(6, 160, 6),
        drawn(5, 120, 30, seed=1),
    ]
    found = pooling.pool(maps, own, [4, 8, 16], 3, finest=12)
    rows = [(i, box) for i, part in enumerate(own) for box in part.tolist()]
    levels = pooling.levels_of(torch.cat(own), 3, 12).tolist()
    assert set(levels) == {0, 1, 2}
    for row, (image, box), level in zip(found, rows, levels, strict=True):
        for channel in range(2):
            expected = naive.roi_align(maps[level][image, channel].numpy(), box, 3, 1 / (4 << level))
            np.testing.assert_allclose(row[channel].numpy(), expected, rtol=1e-9, atol=1e-9)


def test_a_level_is_chosen_by_its_stride():
    """Equation 1 of FPN: 224 x 224 pixels are read from stride 16, wherever the levels begin."""
    for strides in ([2, 4, 8, 16], [4, 8, 16, 32]):
        maps = [torch.full((1, 1, 480 // stride, 480 // stride), float(stride)) for stride in strides]
        assert pooling.pool(maps, [torch.tensor([[8.0, 8, 232, 232]])], strides, 2).unique().tolist() == [16]


def test_pooling_of_no_regions_keeps_the_graph():
    maps = [torch.ones(1, 2, 8 >> i, 8 >> i, requires_grad=True) for i in range(2)]
    found = pooling.pool(maps, [torch.zeros(0, 4)], [4, 8], 7)
    assert found.shape == (0, 2, 7, 7)
    found.sum().backward()
    assert maps[0].grad is not None
    assert not maps[0].grad.any()


def test_pooling_gives_gradients_to_the_level_that_was_read():
    maps = [torch.ones(1, 1, 16 >> i, 16 >> i, requires_grad=True) for i in range(2)]
    pooling.pool(maps, [torch.tensor([[8.0, 8, 40, 40]])], [4, 8], 2).sum().backward()
    assert maps[0].grad.sum() == pytest.approx(4)
    assert maps[1].grad is None


def blob(height, width, seed=0):
    y, x = np.mgrid[:height, :width]
    random = np.random.default_rng(seed)
    cy, cx = random.uniform(0.3, 0.7, 2) * (height, width)
    return ((y - cy) / height * 2.5) ** 2 + ((x - cx) / width * 2.5) ** 2 < 0.6


def test_mask_targets_equal_a_loop_and_are_cut_off_at_the_edge():
    truth = torch.from_numpy(np.stack([blob(40, 60, i) for i in range(3)]))
    own = torch.tensor([[5.0, 3, 50, 38], [20, 10, 90, 70], [-9, 1.5, 33, 44]], dtype=torch.float64)
    which = torch.tensor([2, 0, 1])
    found = masks.mask_targets(truth, own, which, 14)
    for mask, box, index in zip(found, own.tolist(), which, strict=True):
        inside = [min(max(v, 0), (60, 40)[i % 2]) for i, v in enumerate(box)]
        expected = naive.roi_align(truth[index].double().numpy(), inside, 14, 1.0) >= 0.5
        assert np.array_equal(mask.numpy(), expected)
    assert 0 < found.mean() < 1
    assert masks.mask_targets(truth, own[:0], which[:0], 14).shape == (0, 14, 14)


def test_pasting_equals_a_loop():
    shapes = RANDOM.uniform(0, 1, (5, 6, 6))
    own = torch.tensor([[3.2, 4.7, 20, 17], [-6, -3, 12, 9.5], [10, 2, 11, 30], [0, 0, 24, 20], [21.5, 16, 40, 33]])
    found = masks.paste(torch.from_numpy(shapes), own.double(), (20, 24))
    for image, shape, box in zip(found, shapes, own.double().tolist(), strict=True):
        assert np.array_equal(image.numpy(), naive.paste(shape, box, 20, 24))
    assert found.any()


def test_pasting_of_half_precision_is_at_the_boxes_places():
    """Of eight bits, 601.5 would be 600 or 604."""
    own = torch.tensor([[601.5, 303.25, 640.5, 333.5]])
    shapes = torch.from_numpy(RANDOM.uniform(0, 1, (1, 6, 6))).to(torch.bfloat16)
    assert torch.equal(masks.paste(shapes, own, (400, 700)), masks.paste(shapes.float(), own, (400, 700)))


def test_a_mask_of_ones_covers_the_pixels_whose_middles_are_in_its_box():
    own = torch.tensor([[2.0, 3, 7, 9], [1, 5, 1, 9], [4, 4, 9, 5]])  # the second has no area, the third is one pixel
    found = masks.paste(torch.ones(3, 28, 28), own, (10, 12))
    expected = torch.zeros(3, 10, 12, dtype=torch.bool)
    expected[0, 3:9, 2:7] = True
    expected[2, 4:5, 4:9] = True
    assert torch.equal(found, expected)
    assert masks.paste(torch.ones(0, 28, 28), own[:0], (10, 12)).shape == (0, 10, 12)


def test_pasting_brings_a_cut_out_mask_back():
    truth = torch.from_numpy(blob(200, 160))[None]
    box = torchvision.ops.masks_to_boxes(truth) + torch.tensor([0, 0, 1, 1])
    back = masks.paste(masks.mask_targets(truth, box, torch.tensor([0]), 28), box, (200, 160))
    assert (back & truth).sum() / (back | truth).sum() > 0.95


def test_rle_is_pycocotools_and_back():
    truth = np.stack([blob(33, 47, i) for i in range(4)] + [np.zeros((33, 47), bool), np.ones((33, 47), bool)])
    codes = masks.encode_rle(torch.from_numpy(truth))
    theirs = pycoco.encode(np.asfortranarray(truth.transpose(1, 2, 0).astype(np.uint8)))
    assert [(list(c["size"]), c["counts"]) for c in codes] == [(list(c["size"]), c["counts"]) for c in theirs]
    assert np.array_equal(masks.decode_rle(codes, (33, 47)), truth)
    assert masks.encode_rle(truth[:0]) == []
    assert masks.decode_rle([], (3, 4)).shape == (0, 3, 4)


def scored(count, groups, seed=0):
    own = drawn(count, 60, 8, seed)
    random = torch.Generator().manual_seed(seed)
    return (
        own,
        torch.rand(count, generator=random, dtype=torch.float64),
        torch.randint(groups, (count,), generator=random),
    )


@pytest.mark.parametrize("together", [10_000, 10])
def test_grouped_suppression_equals_a_loop(monkeypatch, together):
    monkeypatch.setattr(nms, "TOGETHER", together)
    own, scores, groups = scored(200, 4)
    kept = []
    for group in range(4):
        rows = (groups == group).nonzero().flatten().tolist()
        local = naive.nms(own[rows].tolist(), scores[rows].tolist(), 0.4)
        kept += [rows[i] for i in local]
    kept.sort(key=lambda i: -scores[i])
    assert nms.grouped_nms(own, scores, groups, 0.4).tolist() == kept
    assert nms.grouped_nms(own, scores, groups, 0.4).tolist() == (
        torchvision.ops.batched_nms(own, scores, groups, 0.4).tolist()
    )
    assert nms.grouped_nms(own[:0], scores[:0], groups[:0], 0.4).tolist() == []


@pytest.mark.parametrize("agnostic", [True, False])
def test_multiclass_suppression_equals_a_loop(agnostic):
    own = torch.cat([drawn(50, 60, 8, seed) for seed in range(1 if agnostic else 3)], dim=1)
    scores = torch.rand(50, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scores[7] = torch.tensor([0.3, 0.30001, 0.29], dtype=torch.float64)  # 0.3 itself is not above
    expected = []
    for k in range(3):
        rows = [i for i in range(50) if scores[i, k] > scores[7, 0]]
        of_class = own if agnostic else own[:, 4 * k : 4 * k + 4]
        local = naive.nms(of_class[rows].tolist(), scores[rows, k].tolist(), 0.5)
        expected += [(float(scores[rows[i], k]), k, rows[i], of_class[rows[i]].tolist()) for i in local]
    expected.sort(key=lambda one: -one[0])
    found = nms.multiclass_nms(own, scores, float(scores[7, 0]), 0.5, 20)
    assert len(expected) > 20
    boxes, values, labels, rows = (part.tolist() for part in found)
    assert [*zip(values, labels, rows, boxes, strict=True)] == expected[:20]
