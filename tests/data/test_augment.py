"""Augmentation against torchvision's transforms on single images: same pixels, same distribution."""

import pytest
import torch
from scipy import stats
from torchvision.transforms import v2

from paperzoo.data.images.augment import Normalise, crop_and_flip, draws
from paperzoo.data.images.schema import Augment


def by_hand(image: torch.Tensor, row: int, column: int, flip: bool, padding: int) -> torch.Tensor:
    height, width = image.shape[-2:]
    padded = v2.functional.pad(image, [padding] * 4)
    cropped = v2.functional.crop(padded, row, column, height, width)
    return v2.functional.horizontal_flip(cropped) if flip else cropped


@pytest.mark.parametrize("shape", [(1, 9, 9), (3, 8, 13)])
@pytest.mark.parametrize(("padding", "flip"), [(0, 0.5), (2, 0.0), (3, 0.5), (0, 0.0)])
def test_each_image_is_cropped_and_flipped_as_torchvision_would(shape, padding, flip):
    images = torch.randint(0, 256, (40, *shape), dtype=torch.uint8)
    uniform = torch.rand(40, 3)
    got = crop_and_flip(images, uniform, Augment(crop_padding=padding, flip=flip))
    for image, numbers, result in zip(images, uniform, got, strict=True):
        row, column = (int(u * (2 * padding + 1)) for u in numbers[:2])
        assert torch.equal(result, by_hand(image, row, column, bool(numbers[2] < flip), padding))


def test_places_and_flips_have_torchvisions_distribution():
    """One bright pixel in the middle shows where each crop went and whether it was flipped."""
    count, padding, size = 6000, 2, 9
    images = torch.zeros(count, 1, size, size, dtype=torch.uint8)
    images[:, 0, 4, 3] = 255
    theirs = v2.Compose([v2.RandomCrop(size, padding=padding), v2.RandomHorizontalFlip(0.3)])
    torch.manual_seed(0)
    reference = torch.stack([theirs(image) for image in images])
    ours = crop_and_flip(images, draws(count, 0, 0), Augment(crop_padding=padding, flip=0.3))
    tables = [(batch > 0).sum(0).flatten() for batch in (reference, ours)]
    seen = [place for place in range(size * size) if tables[0][place] + tables[1][place] > 0]
    assert len(seen) == 5 * 7  # columns 1 to 5 as it is, 3 to 7 mirrored
    _, p, _, _ = stats.chi2_contingency([[int(table[place]) for place in seen] for table in tables])
    assert p > 0.001


def test_every_image_has_its_own_numbers():
    table = draws(1000, 0, 0)
    assert len(torch.unique(table[:, 0])) > 990
    assert stats.kstest(table.flatten().numpy(), "uniform").pvalue > 0.001
    assert not torch.equal(table, draws(1000, 0, 1))
    assert not torch.equal(table, draws(1000, 1, 0))
    assert torch.equal(table, draws(1000, 0, 0))


@pytest.mark.parametrize("chans", [1, 3])
def test_normalise_equals_torchvision(chans):
    images = torch.randint(0, 256, (5, chans, 7, 6), dtype=torch.uint8)
    mean, std = [0.2, 0.5, 0.7][:chans], [0.3, 0.2, 0.25][:chans]
    expected = v2.functional.normalize(v2.functional.to_dtype(images, torch.float64, scale=True), mean, std)
    torch.testing.assert_close(Normalise(mean, std, torch.float64)(images), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(Normalise(mean, std)(images), expected.float(), rtol=1e-5, atol=1e-5)
