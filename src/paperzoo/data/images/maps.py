"""Images with a map of labels: digits drawn on paper, and COCO's things and stuff.

A map goes through the pipeline as one more plane of its image, so that both are cropped and flipped as one. It holds
the class of each pixel plus one; 0 is unlabelled, which is what padding gives, too.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from paperzoo.config.schema import Data
from paperzoo.data.images.decoding import CorruptImage, Raw, open_image
from paperzoo.data.images.sources import mnist5k
from paperzoo.data.images.stored import Arrays, Files, Source, Split
from paperzoo.errors import UserError

IGNORED = -100  # the label of pixels that count nowhere; torch's losses leave it out
INK = 128  # a digit's pixels from this grey on; below it is paper
ORIENTATION = 0x0112  # EXIF's tag
NONE = 255  # in a table: a value that means nothing


@dataclass
class Mapped(Split):
    """Images, each with its map.

    Args:
        images: how they are stored; their labels serve stratified splits alone.
        maps: likewise.
        table: (256,) uint8, from a stored map's values to the class plus one, 0 unlabelled; None keeps them.
    """

    images: Split
    maps: Split
    table: np.ndarray | None = None
    planes: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self.labels = self.images.labels

    def read(self, row: int) -> Raw:
        """See ``Split``."""
        return self.images.read(row)

    def where(self, row: int) -> str:
        """See ``Split``."""
        return self.images.where(row)

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """See ``Split``."""
        return self.images.sizes(rows) + self.maps.sizes(rows)

    def labelled(self, row: int, pixels: np.ndarray) -> np.ndarray:
        """See ``Split``: (C, H, W) -> (C + 1, H, W), the map resized and cropped as the image was.

        Raises:
            CorruptImage: the map cannot be read, is of another size, or holds a value that is no class.
        """
        return np.concatenate([pixels, self._map(row, pixels.shape[1:])[None]])

    def _map(self, row: int, size: tuple[int, ...]) -> np.ndarray:
        where = f"its map {self.maps.where(row)}"
        try:
            stored = open_image(self.maps.read(row))
        except CorruptImage as error:
            raise CorruptImage(f"{where}: {error}") from None
        if stored.mode not in ("L", "P"):
            raise CorruptImage(f"{where}: has pixels of kind {stored.mode}, a map has one byte each")
        if (image := _stored_size(self.images.read(row))) != stored.size:
            raise CorruptImage(f"{where}: is {stored.width}x{stored.height}, the image {image[0]}x{image[1]}")
        values = np.asarray(stored)
        if self.table is not None:
            values = self.table[values]
            if (values == NONE).any():
                raise CorruptImage(f"{where}: holds {np.asarray(stored)[values == NONE][0]}, which is no class")
        if values.shape == size:
            return values
        resized = ImageOps.fit(Image.fromarray(values), (size[1], size[0]), Image.Resampling.NEAREST)
        return np.asarray(resized)


def _stored_size(raw: Raw) -> tuple[int, int]:
    """Width and height of an image that is not turned."""
    if isinstance(raw, np.ndarray):
        return raw.shape[1], raw.shape[0]
    with Image.open(raw if isinstance(raw, Path) else io.BytesIO(raw)) as image:
        if image.getexif().get(ORIENTATION, 1) != 1:
            raise CorruptImage("is turned by its EXIF tag, its map is not; store it as it is seen")
        return image.size


def take_apart(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Images (B, C, H, W) uint8 and labels (B, H, W) int64, ``IGNORED`` where there is none."""
    labels = planes[:, -1].long() - 1
    return planes[:, :-1], torch.where(labels < 0, IGNORED, labels)


def digit_maps(config: Data, data_dir: Path) -> Source:
    """MNIST-5k, every pixel labelled: the digit where there is ink, else paper. Eleven classes."""
    digits = mnist5k(config, data_dir)
    images = digits.train
    assert isinstance(images, Arrays)
    classes = images.labels + 1  # after paper
    stored = np.where(images.pixels >= INK, classes[:, None, None] + 1, 1).astype(np.uint8)
    maps = Arrays(stored, classes, "digit maps")
    return Source(["paper", *digits.classes], Mapped(Arrays(images.pixels, classes, images.name), maps))


def coco_stuff(config: Data, data_dir: Path) -> Source:
    """COCO 2017 with maps of things and stuff (``coco_mini``): 133 classes, val2017 is the test split.

    ``{train,val}2017/*.jpg``, ``stuffthingmaps/{train,val}2017/*.png`` with the category's id at each pixel, 0 where
    there is none, and ``annotations/categories.json``.

    Raises:
        UserError: a folder or file is missing or cannot be read; the line names it.
    """
    root = data_dir / "coco_mini"
    path = root / "annotations" / "categories.json"
    if not root.is_dir():
        raise UserError(f"{root}: there is no such folder; set paths.data_dir (or DATA_DIR) to the one that holds it")
    try:
        categories = {int(entry["id"]): str(entry["name"]) for entry in json.loads(path.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a list of categories with id and name ({error})") from None
    ids = sorted(categories)
    if not ids or ids[0] < 1 or ids[-1] > 255 or len(ids) >= NONE:
        raise UserError(f"{path}: the ids of categories must be from 1 to 255, at most 254 of them")
    table = np.full(256, NONE, np.uint8)
    table[[0, *ids]] = np.arange(len(ids) + 1)
    train, test = (_coco_split(root, name, table) for name in ("train2017", "val2017"))
    return Source([categories[key] for key in ids], train, test=test)


def _coco_split(root: Path, name: str, table: np.ndarray) -> Mapped:
    images = sorted((root / name).glob("*.jpg"))
    if not images:
        raise UserError(f"{root / name}: holds no images (*.jpg)")
    maps = [root / "stuffthingmaps" / name / f"{path.stem}.png" for path in images]
    missing = next((path for path in maps if not path.is_file()), None)
    if missing:
        raise UserError(f"{missing}: there is no such file, the map of {root / name / missing.stem}.jpg")
    labels = np.zeros(len(images), np.int64)  # an image has no class of its own
    return Mapped(Files(images, labels), Files(maps, labels), table)
