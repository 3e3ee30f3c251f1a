"""Data in Pascal VOC's format: boxes in XML, lists of images, masks of instances where there are any."""

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperzoo.data.detection.coco import Annotated, Entry, Problems, add_annotations, entries_of, root_of
from paperzoo.data.detection.samples import Array, Source
from paperzoo.data.images.decoding import CorruptImage, open_image
from paperzoo.errors import UserError

CORNERS = ("xmin", "ymin", "xmax", "ymax")


@dataclass
class VocAnnotated(Annotated):
    """Images with VOC's annotations, of which some have a map of instances.

    Attributes:
        instances: the folder of maps: PNGs whose value i is the i-th object of the XML file.
    """

    instances: Path = Path()

    def masks(self, entry: Entry) -> Array:
        """Of the map of instances; of an image without one, the boxes."""
        path = self._map_of(entry)
        if not path.is_file():
            return super().masks(entry)
        try:
            values = np.asarray(open_image(path))
        except CorruptImage as error:
            raise CorruptImage(f"its map {path}: {error}") from None
        if values.shape != (entry.height, entry.width) or values.dtype != np.uint8:
            raise CorruptImage(f"its map {path}: has the shape {values.shape}, or not 8 bits a pixel")
        numbers = np.array([one["number"] for one in entry.annotations], np.int64)
        return values == numbers[:, None, None]

    def content(self, rows: Iterable[int]) -> Iterable[Any]:
        """See ``Split``."""
        chosen = list(rows)
        yield from super().content(chosen)
        for row in chosen:
            path = self._map_of(self.entries[row])
            if path.is_file():
                yield path.read_bytes()

    def _map_of(self, entry: Entry) -> Path:
        return self.instances / f"{entry.path.stem}.png"


def voc(config: Any, data_dir: Path) -> Source:
    """VOC's layout below ``data.root``, a folder like ``VOCdevkit/VOC2007``.

    ``ImageSets/<list>.txt`` names the images of ``data.train_list``, ``val_list`` and ``test_list`` (None: held out of
    train); ``Annotations/<name>.xml``, ``JPEGImages/`` and, for masks, ``SegmentationObject/<name>.png``. Boxes
    count pixels from 1, the last one included. Objects that are ``difficult`` are crowds: they are not trained on, and
    hits of them do not count.

    Raises:
        UserError: a folder or file is missing, cannot be read, or holds malformed annotations.
    """
    root = root_of(config, data_dir)
    lists = {"train": config.train_list, "val": config.val_list, "test": config.test_list}
    problems = {name: Problems(root / "Annotations") for name, own in lists.items() if own}
    read = {
        name: _files(root, name, str(lists[name]), own)  # in the order of lists: train names the classes
        for name, own in problems.items()
    }
    classes = config.classes or sorted({one["category_id"] for _, own in read["train"] for one in own} - {""})
    if not classes:
        problems["train"].refuse(config.on_error)
        raise UserError(f"data.train_list={config.train_list}: none of its {len(read['train'])} images has an object")
    label_of: dict[Any, int] = {name: label for label, name in enumerate(classes)}
    splits = {}
    for name, found in read.items():
        own = problems[name]
        entries = entries_of([described for described, _ in found], root / "JPEGImages", own)
        add_annotations((one for _, objects in found for one in objects), entries, label_of, own)
        own.refuse(config.on_error)
        splits[name] = VocAnnotated(list(entries.values()), label_of, instances=root / "SegmentationObject")
    wrong = {f"{name}: {kind}": what for name, own in problems.items() for kind, what in own.named.items()}
    return Source(classes, [], splits["train"], splits.get("val"), splits.get("test"), wrong)


Image = tuple[dict[str, Any], list[dict[str, Any]]]  # its description, its objects, as COCO has them


def _files(root: Path, split: str, name: str, problems: Problems) -> list[Image]:
    """The images of a list whose XML files can be read."""
    path = root / "ImageSets" / f"{name}.txt"
    try:
        names = [line.split()[0] for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError):
        raise UserError(f"data.{split}_list={name}: {path} cannot be read as a list of images") from None
    found = []
    for key in names:
        place = root / "Annotations" / f"{key}.xml"
        try:
            found.append(_described(key, ET.fromstring(place.read_bytes()), root / "JPEGImages"))
        except OSError:
            problems.add("image whose annotations are missing", str(place))
        except (ET.ParseError, ValueError):  # the latter of an unknown encoding
            problems.add("image whose annotations are no XML", str(place))
    return found


def _described(key: str, content: ET.Element, images: Path) -> Image:
    """An image and its objects in COCO's form; a number that is none becomes NaN, which is refused later."""
    height, width = (_number(content, f"size/{side}") for side in ("height", "width"))
    named = content.findtext("filename", "").strip()
    file_name = named if named and (images / named).is_file() else f"{key}.jpg"
    objects = []
    for number, one in enumerate(content.findall("object"), 1):
        left, top, right, bottom = (_number(one, f"bndbox/{side}") for side in CORNERS)
        objects.append(
            {
                "id": f"{key}, object {number}",
                "image_id": key,
                "category_id": one.findtext("name", "").strip(),
                "bbox": [left - 1, top - 1, right - left + 1, bottom - top + 1],
                "iscrowd": int(one.findtext("difficult", "0").strip() == "1"),
                "number": number,
            }
        )
    return {"id": key, "file_name": file_name, "height": height, "width": width}, objects


def _number(content: ET.Element, path: str) -> float:
    try:
        return float(content.findtext(path, ""))
    except ValueError:
        return math.nan
