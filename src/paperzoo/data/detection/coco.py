"""Data in COCO's format: boxes, polygons or run-length codes, crowds, maps of things and stuff."""

import json
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
LARGEST = 1e18  # number in an annotation
THINNEST = 1e-3  # pixels of a box: less is lost in float32, and the logarithm of its side with it
UNREADABLE = (OSError, ValueError, KeyError, TypeError, OverflowError)  # what a file that is none of ours raises


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
        label_of: from a category's id, or name, to the class.
        maps: the folder of maps, one PNG an image; None: there are none.
        table: (256,) uint8, from a map's values to labels.
    """

    entries: list[Entry]
    label_of: dict[Any, int]
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
        return Sample(
            image,
            boxes,
            np.array([self.label_of[one["category_id"]] for one in known], np.int64),
            self.masks(entry),
            np.array([bool(one.get("iscrowd", 0)) for one in known], bool),
            np.array([one["area"] for one in known], np.float64),
            self._semantic(entry),
        )

    def masks(self, entry: Entry) -> Array:
        """Of the objects of an image: (G, H, W) bool.

        Raises:
            CorruptImage: a code cannot be decoded.
        """
        found = np.zeros((len(entry.annotations), entry.height, entry.width), bool)
        for place, one in zip(found, entry.annotations, strict=True):
            try:
                place[:] = mask_of(one, entry.height, entry.width)
            except (ValueError, RuntimeError) as error:
                raise CorruptImage(f"annotation {one['id']}: its mask cannot be decoded ({error})") from None
        return found

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
        if values.dtype != np.uint8:
            raise CorruptImage(f"its map {path}: is not of 8 bits a pixel")
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
    """Malformed annotations by kind, each by name."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.named: dict[str, list[str]] = {}
        self.first: str | None = None

    def add(self, kind: str, what: str) -> None:
        """Add one."""
        self.named.setdefault(kind, []).append(what)
        self.first = self.first or f"{what}: {kind}"

    def refuse(self, on_error: str) -> None:
        """Stop, unless they are to be skipped.

        Raises:
            UserError: all in one line.
        """
        if self.named and on_error == "raise":
            counts = ", ".join(f"{len(names)} {kind}" for kind, names in sorted(self.named.items()))
            raise UserError(
                f"{self.place}: malformed annotations ({counts}), the first is {self.first}; mend them, or set "
                "data.on_error=skip to leave them out"
            )


def read_annotations(
    path: Path, images: Path, on_error: str, maps: Path | None = None
) -> tuple[list[Entry], dict[int, str], dict[str, list[str]]]:
    """The images of an annotation file with what is well-formed, its categories by id, what was left out by kind.

    An image without objects stays. Checked: the image and, where there is a folder of ``maps``, its map are there, the
    category is known, ids are unique, numbers are finite, boxes have an area and lie in the image, masks fit it.

    Raises:
        UserError: the file cannot be read, or, unless ``on_error`` is ``skip``, something in it is malformed.
    """
    problems = Problems(path)
    try:
        content = json.loads(path.read_bytes())
        categories: dict[int, str] = {}
        for one in content["categories"]:
            key = int(one["id"])
            if key in categories:
                problems.add("category id that stands twice", f"category {key}")
            categories.setdefault(key, str(one["name"]))
        described = list(content["images"])
        annotations = list(content["annotations"])
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as COCO annotations ({error!r})") from None
    if not categories:
        raise UserError(f"{path}: has no categories")
    entries = entries_of(described, images, problems, maps)
    add_annotations(annotations, entries, categories, problems)
    problems.refuse(on_error)
    return [entries[key] for key in sorted(entries, key=_in_order)], categories, problems.named


def add_annotations(
    annotations: Iterable[Any], entries: dict[Any, Entry], categories: Iterable[Any], problems: Problems
) -> None:
    """Give each well-formed annotation to its image, in the order of ids; the others are problems."""
    seen: set[Any] = set()
    known = set(categories)
    for one in annotations:
        kind = _wrong_with(one, entries, known, seen)
        if kind:
            problems.add(kind, f"annotation {one.get('id') if isinstance(one, dict) else one!r}")
        else:
            seen.add(one["id"])
            entries[one["image_id"]].annotations.append(one)
    for entry in entries.values():
        entry.annotations.sort(key=lambda one: _in_order(one["id"]))


def _in_order(key: Any) -> tuple[bool, Any]:
    """Numbers before names: the two cannot be compared."""
    return isinstance(key, str), key


def entries_of(
    described: Iterable[Any], images: Path, problems: Problems, maps: Path | None = None
) -> dict[Any, Entry]:
    """Images by id whose descriptions are whole and whose files are there."""
    entries: dict[Any, Entry] = {}
    for one in described:
        try:
            key, path = one["id"], images / str(one["file_name"])
            height, width = int(one["height"]), int(one["width"])
        except UNREADABLE:
            problems.add("image without id, file_name, height or width", f"image {one!r}"[:80])
            continue
        if not _identifies(key) or min(height, width) < 1:
            problems.add("image without id, file_name, height or width", f"image {one!r}"[:80])
        elif key in entries:
            problems.add("image id that stands twice", f"image {key}")
        elif not path.is_file():
            problems.add("image whose file is missing", str(path))
        elif maps is not None and not (maps / f"{path.stem}.png").is_file():
            problems.add("image whose map is missing", str(maps / f"{path.stem}.png"))
        else:
            entries[key] = Entry(path, height, width)
    return entries


def _identifies(key: Any) -> bool:
    return isinstance(key, str) or _finite(key)


def _finite(value: Any) -> bool:
    """Whether it is a number; NaN is in no order with another."""
    return isinstance(value, int | float) and -LARGEST < value < LARGEST


def _wrong_with(one: Any, entries: dict[Any, Entry], categories: set[Any], seen: set[Any]) -> str | None:
    """The kind of what is wrong with an annotation, or None."""
    if not isinstance(one, dict) or not {"id", "image_id", "category_id", "bbox"} <= one.keys():
        return "without id, image_id, category_id or bbox"
    if not all(_identifies(one[name]) for name in ("id", "image_id", "category_id")):
        return "without id, image_id, category_id or bbox"
    if one["id"] in seen:
        return "id that stands twice"
    if one["image_id"] not in entries:
        return "of an image that is not there"
    if one["category_id"] not in categories:
        return "of an unknown category"
    box = one["bbox"]
    if not isinstance(box, list) or len(box) != 4 or not all(map(_finite, [*box, one.get("area", 0)])):
        return "with numbers that are not finite"
    x, y, width, height = box
    if min(width, height) < THINNEST or one.setdefault("area", width * height) <= 0:
        return "without area"
    entry = entries[one["image_id"]]
    over = (-x, -y, x + width - entry.width, y + height - entry.height)
    inside = min(x + width, entry.width) - max(x, 0), min(y + height, entry.height) - max(y, 0)
    if max(over) > OUTSIDE or min(inside) < THINNEST:
        return "outside the image"
    return _wrong_mask(one.get("segmentation"), entry)


def _wrong_mask(code: Any, entry: Entry) -> str | None:
    if not code:
        return None
    if isinstance(code, dict):
        return _wrong_code(code, entry)
    polygons = isinstance(code, list) and all(
        isinstance(one, list) and len(one) >= 6 and not len(one) % 2 and all(map(_finite, one)) for one in code
    )
    if not polygons:
        return "with polygons that are none"
    far = any(
        not -side <= value <= 2 * side  # drawing them takes time and memory by their length
        for one in code
        for start, side in ((0, entry.width), (1, entry.height))
        for value in one[start::2]
    )
    return "with polygons far outside the image" if far else None


def _wrong_code(code: dict[str, Any], entry: Entry) -> str | None:
    """Of run lengths, as a list or compressed."""
    counts = code.get("counts")
    if code.get("size") != [entry.height, entry.width] or not isinstance(counts, list | str):
        return "with a mask of another size"
    if isinstance(counts, list):
        whole = all(isinstance(run, int) and run >= 0 for run in counts)
        return None if whole and sum(counts) == entry.height * entry.width else "with run lengths that are none"
    try:
        coding.area([code])
    except (ValueError, RuntimeError):
        return "with run lengths that are none"
    return None


def root_of(config: Any, data_dir: Path) -> Path:
    """``data.root``, a folder or one below ``data_dir``.

    Raises:
        UserError: there is none.
    """
    root = Path(config.root).expanduser()
    root = root if root.is_absolute() or root.is_dir() else data_dir / root
    if not root.is_dir():
        raise UserError(f"data.root={config.root}: there is no such folder, nor in paths.data_dir={data_dir}")
    return root


def coco(config: Any, data_dir: Path) -> Source:
    """COCO's layout below ``data.root``: train2017 is trained on, val2017 tests.

    ``annotations/instances_{train,val}2017.json``, ``{train,val}2017/``, and where they are there
    ``stuffthingmaps/{train,val}2017/*.png`` with ``annotations/categories.json``.

    Raises:
        UserError: a folder or file is missing, cannot be read, or holds malformed annotations.
    """
    root = root_of(config, data_dir)
    stuff, table = _labels(root)
    splits: dict[str, Annotated] = {}
    problems: dict[str, list[str]] = {}
    classes: dict[int, str] | None = None
    for name in (TRAIN, VAL):
        path = root / "annotations" / f"instances_{name}.json"
        if not path.is_file():
            raise UserError(f"{path}: there is no such file; data.root={config.root} must hold COCO's layout")
        maps = root / "stuffthingmaps" / name if stuff else None
        entries, categories, wrong = read_annotations(path, root / name, config.on_error, maps)
        if classes is not None and categories != classes:
            raise UserError(f"{path}: its categories are not those of instances_{TRAIN}.json")
        classes = categories
        problems |= {f"{name}: {kind}": names for kind, names in wrong.items()}
        label_of = {key: label for label, key in enumerate(sorted(categories))}
        splits[name] = Annotated(entries, label_of, maps, table)
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
    except UNREADABLE as error:
        raise UserError(f"{path}: cannot be read as a list of categories with id and name ({error})") from None
    ids = sorted(names)
    if wrong := [key for key in ids if not 0 <= key < UNLABELLED]:
        raise UserError(f"{path}: its id {wrong[0]} is none of 0 to {UNLABELLED - 1}, which maps of 8 bits can hold")
    table = np.full(256, UNLABELLED, np.uint8)
    table[ids] = np.arange(len(ids))
    return [names[key] for key in ids], table
