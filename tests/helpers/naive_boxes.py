"""Detection written out slowly in float64, number by number: the reference of the tests."""

import math

import numpy as np

CLAMP = abs(math.log(16 / 1000))


def iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    overlap = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - overlap
    return overlap / union if union > 0 else 0.0


def encode(box, target, stds):
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    to_width, to_height = target[2] - target[0], target[3] - target[1]
    to_x, to_y = (target[0] + target[2]) / 2, (target[1] + target[3]) / 2
    moves = ((to_x - x) / width, (to_y - y) / height, math.log(to_width / width), math.log(to_height / height))
    return [move / std for move, std in zip(moves, stds, strict=True)]


def decode(box, delta, stds, size=None):
    dx, dy, dw, dh = (float(d) * s for d, s in zip(delta, stds, strict=True))
    width, height = box[2] - box[0], box[3] - box[1]
    x, y = (box[0] + box[2]) / 2 + dx * width, (box[1] + box[3]) / 2 + dy * height
    width, height = (side * math.exp(min(max(d, -CLAMP), CLAMP)) for side, d in ((width, dw), (height, dh)))
    moved = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    if size is None:
        return moved
    return [min(max(v, 0.0), float(size[1 - i % 2])) for i, v in enumerate(moved)]


def match(truth, boxes, positive, negative, minimum, low_quality):
    """Index of the object, -1 background, -2 ignored."""
    table = [[iou(t, b) for b in boxes] for t in truth]
    if not truth:
        return [-1] * len(boxes)
    found = []
    for j, _ in enumerate(boxes):
        column = [row[j] for row in table]
        best = max(column)
        found.append(column.index(best) if best >= positive else -1 if best < negative else -2)
    if low_quality:
        for i, row in enumerate(table):
            best = max(row, default=0.0)
            for j, value in enumerate(row):
                if best >= minimum and value == best:
                    found[j] = i
    return found


def first(matches, size, positives):
    """The first of each kind."""
    found = [j for j, m in enumerate(matches) if m >= 0][: int(size * positives)]
    return found, [j for j, m in enumerate(matches) if m == -1][: size - len(found)]


def nms(boxes, scores, threshold):
    order = sorted(range(len(boxes)), key=lambda i: -scores[i])
    kept = []
    for i in order:
        if all(iou(boxes[i], boxes[k]) <= threshold for k in kept):
            kept.append(i)
    return kept


def bilinear(image, y, x):
    """Value of (H, W) between its cells as RoIAlign takes it: the edge goes on for one cell, then there is 0."""
    height, width = image.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    y, x = (float(top) if top == height - 1 else y), (float(left) if left == width - 1 else x)
    dy, dx = y - top, x - left
    return (
        image[top, left] * (1 - dy) * (1 - dx)
        + image[top, right] * (1 - dy) * dx
        + image[bottom, left] * dy * (1 - dx)
        + image[bottom, right] * dy * dx
    )


def roi_align(image, box, size, scale):
    """(H, W), one box -> (size, size); half a pixel off, as many samples a bin as it has cells, rounded up."""
    x1, y1, x2, y2 = (v * scale - 0.5 for v in box)
    height, width = (y2 - y1) / size, (x2 - x1) / size
    rows, columns = math.ceil(height), math.ceil(width)
    found = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            values = [
                bilinear(image, y1 + (i + (r + 0.5) / rows) * height, x1 + (j + (c + 0.5) / columns) * width)
                for r in range(rows)
                for c in range(columns)
            ]
            found[i, j] = sum(values) / max(1, len(values))
    return found


def level(box, levels):
    side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    return min(max(math.floor(math.log2(side / 56 + 1e-6)), 0), levels - 1)


def paste(mask, box, height, width):
    size_y, size_x = mask.shape
    image = np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            y = (row + 0.5 - box[1]) / (box[3] - box[1]) * size_y - 0.5
            x = (column + 0.5 - box[0]) / (box[2] - box[0]) * size_x - 0.5
            top, left = math.floor(y), math.floor(x)
            value = 0.0
            for r, wr in ((top, top + 1 - y), (top + 1, y - top)):
                for c, wc in ((left, left + 1 - x), (left + 1, x - left)):
                    if 0 <= r < size_y and 0 <= c < size_x:
                        value += wr * wc * mask[r, c]
            image[row, column] = value >= 0.5
    return image


def cross_entropy(logits, label):
    logits = [float(v) for v in logits]
    top = max(logits)
    return top + math.log(sum(math.exp(v - top) for v in logits)) - logits[label]


def binary_cross_entropy(logit, target):
    logit = float(logit)
    return max(logit, 0.0) - logit * target + math.log1p(math.exp(-abs(logit)))


def smooth_l1(difference, beta):
    size = abs(difference)
    return size * size / 2 / beta if size < beta else size - beta / 2
