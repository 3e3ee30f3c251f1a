"""Data in COCO's format: boxes, polygons or run-length codes, crowds, maps of things and stuff."""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from faster_coco_eval.core import mask as coding  # type: ignore[import-untyped]

from paperzoo.data.detection.samples import UNLABELLED, Array, Sample, Source, Split
from paperzoo.data.images.decoding import CorruptImage, open_image, to_pixels
from paperzoo.errors import UserError

TRAIN, VAL = "train2017", "val2017"
OUTSIDE = 1.0  # pixels that a box may reach over the edge: annotations are rounded


@dataclass
class Entry:
    """An image and its annotations."""

    path: Path
    height: int
    width: int
    annotations: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Annotated(Split):
    """Images of a folder with their annotations.

    Attributes:
        entries: of the images.
        label_of: from a category's id to the class.
        maps: the folder of maps, one PNG an image; None: there are none.
        table: (256,) uint8, from a map's values to labels.
    """

    entries: list[Entry]
    label_of: dict[int, int]
    maps: Path | None = None
    table: Array | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def where(self, row: int) -> str:
        """See ``Split``."""
        return str(self.entries[row].path)

    def size(self, row: int) -> tuple[int, int]:
        """As the annotations say."""
        return self.entries[row].height, self.entries[row].width

    def read(self, row: int) -> Sample:
        """See ``Split``."""
        entry = self.entries[row]
        image = to_pixels(open_image(entry.path), 3, None)
        if image.shape[1:] != (entry.height, entry.width):
            height, width = image.shape[1:]
            raise CorruptImage(f"is {height}x{width}, its annotations say {entry.height}x{entry.width}")
        known = entry.annotations
        boxes = np.array([one["bbox"] for one in known], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        np.clip(boxes, 0, [entry.width, entry.height] * 2, out=boxes)
        masks = [mask_of(one, entry.height, entry.width) for one in known]
        return Sample(
            image,
            boxes,
            np.array([self.label_of[one["category_id"]] for one in known], np.int64),
            np.stack(masks) if masks else np.zeros((0, entry.height, entry.width), bool),
            np.array([bool(one.get("iscrowd", 0)) for one in known], bool),
            np.array([one["area"] for one in known], np.float64),
            self._semantic(entry),
        )

    def _semantic(self, entry: Entry) -> Array | None:
        if self.maps is None or self.table is None:
            return None
        path = self.maps / f"{entry.path.stem}.png"
        try:
            values = np.asarray(open_image(path))
        except CorruptImage as error:
            raise CorruptImage(f"its map {path}: {error}") from None
        if values.shape != (entry.height, entry.width):
            raise CorruptImage(f"its map {path}: has the shape {values.shape}")
        return self.table[values]

    def content(self, rows: Iterable[int]) -> Iterable[Any]:
        """See ``Split``."""
        for row in rows:
            entry = self.entries[row]
            yield entry.path.read_bytes()
            yield json.dumps(entry.annotations, sort_keys=True)
            if self.maps is not None:
                yield (self.maps / f"{entry.path.stem}.png").read_bytes()


def mask_of(annotation: dict[str, Any], height: int, width: int) -> Array:
    """The mask (H, W) bool of an annotation's polygons, run lengths or compressed code; without one, its box."""
    code = annotation.get("segmentation")
    if not code:
        x, y, w, h = annotation["bbox"]
        code = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    if isinstance(code, dict) and isinstance(code["counts"], str | bytes):
        codes = code
    else:
        codes = coding.frPyObjects(code, height, width)
        if isinstance(codes, list):
            codes = coding.merge(codes)
    return np.asarray(coding.decode(codes)).astype(bool)


class Problems:
    """Malformed annotations: how many of each kind, and the first by name."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.counts: dict[str, int] = {}
        self.first: str | None = None

    def add(self, kind: str, what: str) -> None:
        """Count one."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        self.first = self.first or f"{what}: {kind}"

    def line(self) -> str:
        """All in one line."""
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(self.counts.items()))
        return f"{self.place}: malformed annotations ({counts}), the first is {self.first}"


def read_annotations(path: Path, images: Path, on_error: str) -> tuple[list[Entry], dict[int, str], dict[str, int]]:
    """The images of an annotation file with what is well-formed, its categories by id, and what was left out by kind.

    An image without objects stays. Checked: the image is there, the category is known, ids are unique, numbers are
    finite, boxes have an area and lie in the image, masks fit it.

    Raises:
        UserError: the file cannot be read, or, unless ``on_error`` is ``skip``, something in it is malformed.
    """
    try:
        content = json.loads(path.read_bytes())
        categories = {int(one["id"]): str(one["name"]) for one in content["categories"]}
        described = list(content["images"])
        annotations = list(content["annotations"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as COCO annotations ({error!r})") from None
    problems = Problems(path)
    entries = _entries(described, images, problems)
    seen: set[Any] = set()
    for one in annotations:
        kind = _wrong_with(one, entries, categories, seen)
        if kind:
            problems.add(kind, f"annotation {one.get('id') if isinstance(one, dict) else one!r}")
        else:
            seen.add(one["id"])
            entries[one["image_id"]].annotations.append(one)
    if problems.counts and on_error == "raise":
        raise UserError(f"{problems.line()}; mend them, or set data.on_error=skip to leave them out")
    for entry in entries.values():
        entry.annotations.sort(key=lambda one: one["id"])
    return [entries[key] for key in sorted(entries)], categories, problems.counts


def _entries(described: list[Any], images: Path, problems: Problems) -> dict[int, Entry]:
    entries: dict[int, Entry] = {}
    for one in described:
        try:
            key, path = one["id"], images / str(one["file_name"])
            height, width = int(one["height"]), int(one["width"])
        except (KeyError, TypeError, ValueError):
            problems.add("image without id, file_name, height or width", f"image {one!r}"[:80])
            continue
        if key in entries:
            problems.add("image id that stands twice", f"image {key}")
        elif not path.is_file():
            problems.add("image whose file is missing", str(path))
        else:
            entries[key] = Entry(path, height, width)
    return entries


def _wrong_with(one: Any, entries: dict[int, Entry], categories: dict[int, str], seen: set[Any]) -> str | None:
    """The kind of what is wrong with an annotation, or None."""
    if not isinstance(one, dict) or not {"id", "image_id", "category_id", "bbox"} <= one.keys():
        return "without id, image_id, category_id or bbox"
    if one["id"] in seen:
        return "id that stands twice"
    if one["image_id"] not in entries:
        return "of an image that is not there"
    if one["category_id"] not in categories:
        return "of an unknown category"
    box = one["bbox"]
    numbers = [*box, one.get("area", 0)] if isinstance(box, list) and len(box) == 4 else [math.nan]
    if not all(isinstance(v, int | float) and math.isfinite(v) for v in numbers):
        return "with numbers that are not finite"
    x, y, width, height = box
    if width <= 0 or height <= 0 or one.setdefault("area", width * height) <= 0:
        return "without area"
    entry = entries[one["image_id"]]
    over = (-x, -y, x + width - entry.width, y + height - entry.height)
    if max(over) > OUTSIDE:
        return "outside the image"
    return _wrong_mask(one.get("segmentation"), entry)


def _wrong_mask(code: Any, entry: Entry) -> str | None:
    if not code:
        return None
    if isinstance(code, dict):
        fits = list(code.get("size", ())) == [entry.height, entry.width] and "counts" in code
        return None if fits else "with a mask of another size"
    polygons = isinstance(code, list) and all(
        isinstance(one, list) and len(one) >= 6 and not len(one) % 2 and all(map(math.isfinite, one)) for one in code
    )
    return None if polygons else "with polygons that are none"


def coco(config: Any, data_dir: Path) -> Source:
    """COCO's layout below ``data.root``: train2017 is trained on, val2017 tests.

    ``annotations/instances_{train,val}2017.json``, ``{train,val}2017/``, and where they are there
    ``stuffthingmaps/{train,val}2017/*.png`` with ``annotations/categories.json``.

    Raises:
        UserError: a folder or file is missing, cannot be read, or holds malformed annotations.
    """
    root = Path(config.root).expanduser()
    root = root if root.is_absolute() or root.is_dir() else data_dir / root
    if not root.is_dir():
        raise UserError(f"data.root={config.root}: there is no such folder, nor in paths.data_dir={data_dir}")
    stuff, table = _labels(root)
    splits: dict[str, Annotated] = {}
    problems: dict[str, int] = {}
    classes: dict[int, str] | None = None
    for name in (TRAIN, VAL):
        path = root / "annotations" / f"instances_{name}.json"
        if not path.is_file():
            raise UserError(f"{path}: there is no such file; data.root={config.root} must hold COCO's layout")
        entries, categories, wrong = read_annotations(path, root / name, config.on_error)
        if classes is not None and categories != classes:
            raise UserError(f"{path}: its categories are not those of instances_{TRAIN}.json")
        classes = categories
        problems |= {f"{name}: {kind}": count for kind, count in wrong.items()}
        label_of = {key: label for label, key in enumerate(sorted(categories))}
        splits[name] = Annotated(entries, label_of, root / "stuffthingmaps" / name if stuff else None, table)
    assert classes is not None
    names = [classes[key] for key in sorted(classes)]
    return Source(names, stuff, splits[TRAIN], test=splits[VAL], problems=problems)


def _labels(root: Path) -> tuple[list[str], Array | None]:
    """Names of the labels of pixels, and the table from a map's values to them; nothing where there are no maps."""
    path = root / "annotations" / "categories.json"
    if not (path.is_file() and (root / "stuffthingmaps").is_dir()):
        return [], None
    try:
        names = {int(one["id"]): str(one["name"]) for one in json.loads(path.read_bytes())}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a list of categories with id and name ({error})") from None
    ids = sorted(names)
    table = np.full(256, UNLABELLED, np.uint8)
    table[ids] = np.arange(len(ids))
    return [names[key] for key in ids], table
