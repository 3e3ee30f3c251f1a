"""What a network says of photos, as files and as a table: classes, maps, boxes."""

import csv
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from rich.text import Text

from paperzoo import pictures
from paperzoo.detection.masks import encode_rle, paste
from paperzoo.detection.pictures import found_on
from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.files import write_atomically
from paperzoo.inference.loading import Trained
from paperzoo.inference.photos import Read
from paperzoo.tasks.detection import at_size

SHOWN = 40  # rows of a table in the terminal; the files have all
DIGITS = 6  # of a probability in the CSV file


class Results(ABC):
    """Results of photos, batch by batch.

    Args:
        trained: what predicts.
        folder: where files go.
        top, score: see ``predicting.run``.

    Raises:
        UserError: the folder holds results already.
    """

    FILE = "predictions.csv"

    def __init__(self, trained: Trained, folder: Path, *, top: int, score: float) -> None:
        self.trained, self.folder, self.top, self.score = trained, folder, top, score
        self.classes = _names(trained)
        if (folder / self.FILE).exists():
            raise UserError(f"out={folder}: holds {self.FILE} already; name another folder, or remove it")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"out={folder}: cannot be made ({error.strerror})") from None
        self.rows: list[dict[str, Any]] = []

    @abstractmethod
    def add(self, batch: Sequence[Read], predicted: Any) -> None:
        """A batch and what the network said of it."""

    @abstractmethod
    def finish(self, display: Display) -> None:
        """Write what is left, and show it."""

    def write_rows(self) -> None:
        """The rows as CSV."""
        path = self.folder / self.FILE
        temporary = path.with_suffix(".tmp")
        with temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
        temporary.replace(path)

    def place(self, kind: str, read: Read) -> Path:
        """Where a photo's picture goes."""
        path = self.folder / kind / f"{read.photo.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def _names(trained: Trained) -> list[str]:
    names = [str(name) for name in trained.info.get("class_names", ())]
    return names or [str(k) for k in range(trained.info["num_classes"])]


class Classes(Results):
    """The ``top`` classes of each photo: ``predictions.csv`` has file, place, class, index, probability."""

    def add(self, batch: Sequence[Read], predicted: Any) -> None:
        """Logits (B, K)."""
        probabilities = predicted.double().softmax(dim=1)
        best = probabilities.topk(min(self.top, probabilities.shape[1]), dim=1)
        for read, values, places in zip(batch, best.values.tolist(), best.indices.tolist(), strict=True):
            for place, (value, k) in enumerate(zip(values, places, strict=True), start=1):
                row = {"file": read.photo.name, "place": place, "class": self.classes[k], "index": k}
                self.rows.append({**row, "probability": round(value, DIGITS)})

    def finish(self, display: Display) -> None:
        """A row for each photo."""
        self.write_rows()
        files: dict[str, list[str]] = {}
        for row in self.rows:
            files.setdefault(row["file"], []).append(f"{row['class']} ({100 * row['probability']:.1f} %)")
        places = len(next(iter(files.values())))
        _show(display, ("file", *map(str, range(1, places + 1))), [(file, *words) for file, words in files.items()])
        display.line(f"\n{self.folder / self.FILE}")


class Maps(Results):
    """The class of each pixel.

    ``maps/<file>.png`` has class indices (with the colours of the pictures; 16 bits for
    more than 256 classes), ``pictures/<file>.png`` shows
    them beside the photo, ``predictions.csv`` has file, class, index and share of the pixels.
    """

    def add(self, batch: Sequence[Read], predicted: Any) -> None:
        """Logits (B, K, h, w)."""
        for read, scores in zip(batch, predicted, strict=True):
            indices = scores.argmax(0).numpy()
            pictures.save_map(indices, len(self.classes), self.place("maps", read))
            shown = read.pixels.permute(1, 2, 0).numpy()
            figure = pictures.map_of(shown, indices, self.classes)
            pictures.save(figure, read.photo.name, self.place("pictures", read))
            counts = np.bincount(indices.ravel(), minlength=len(self.classes))
            for k in np.argsort(-counts, kind="stable"):
                if counts[k]:
                    row = {"file": read.photo.name, "class": self.classes[k], "index": int(k)}
                    self.rows.append({**row, "share": round(float(counts[k] / indices.size), DIGITS)})

    def finish(self, display: Display) -> None:
        """The classes of each photo, the largest first."""
        self.write_rows()
        files: dict[str, list[str]] = {}
        for row in self.rows:
            files.setdefault(row["file"], []).append(f"{row['class']} ({100 * row['share']:.1f} %)")
        _show(display, ("file", "classes"), [(file, ", ".join(parts[: self.top])) for file, parts in files.items()])
        for name in (self.FILE, "maps/", "pictures/"):
            display.line(f"{self.folder}/{name}")


class Boxes(Results):
    """Objects in COCO's form, in pixels of the photos as they are seen (turned by their EXIF tag).

    ``predictions.json`` has images, categories and annotations, each with its score and where the network segments
    with its mask; ``pictures/<file>.png`` shows those that score at least ``score``.
    """

    FILE = "predictions.json"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, batch: Sequence[Read], predicted: Any) -> None:
        """Detections of each image, in pixels of the network's images."""
        for read, own in zip(batch, predicted, strict=True):
            size: Any = tuple(read.pixels.shape[1:])
            self._describe(read, at_size(own, size, read.size))
            kept = own["scores"] >= self.score
            drawn = {name: value[kept] for name, value in own.items()}
            if "masks" in drawn:
                drawn["masks"] = paste(drawn["masks"], drawn["boxes"], size)
            figure = found_on(read.pixels.permute(1, 2, 0).numpy(), drawn, self.classes)
            pictures.save(figure, read.photo.name, self.place("pictures", read))

    def _describe(self, read: Read, found: dict[str, torch.Tensor]) -> None:
        """Add what was found, in pixels of the photo."""
        number, (height, width) = len(self.images) + 1, read.size
        self.images.append({"id": number, "file_name": read.photo.name, "height": height, "width": width})
        corners = found["boxes"].double()
        boxes = torch.cat([corners[:, :2], corners[:, 2:] - corners[:, :2]], dim=1)
        rows = zip(boxes.tolist(), found["scores"].double().tolist(), found["labels"].tolist(), strict=True)
        for place, (box, score, label) in enumerate(rows):
            one = {"id": len(self.annotations) + 1, "image_id": number, "category_id": label, "iscrowd": 0}
            one |= {"bbox": box, "score": score, "area": box[2] * box[3]}
            if "masks" in found:  # one after the other: a hundred masks of a large photo take a gigabyte
                which = slice(place, place + 1)
                mask = paste(found["masks"][which], found["boxes"][which], read.size)
                (code,) = encode_rle(mask)
                one |= {"area": int(mask.sum()), "segmentation": {**code, "counts": _text(code["counts"])}}
            self.annotations.append(one)

    def finish(self, display: Display) -> None:
        """How many objects of which class each photo has, of those that are drawn."""
        categories = [{"id": k, "name": name} for k, name in enumerate(self.classes)]
        content = {"images": self.images, "categories": categories, "annotations": self.annotations}
        write_atomically(self.folder / self.FILE, json.dumps(content).encode())
        counts: dict[int, dict[str, int]] = {image["id"]: {} for image in self.images}
        for one in self.annotations:
            if one["score"] >= self.score:
                own, name = counts[one["image_id"]], self.classes[one["category_id"]]
                own[name] = own.get(name, 0) + 1
        words = {key: ", ".join(f"{n} x {name}" for name, n in own.items()) for key, own in counts.items()}
        heading = ("file", f"objects that score at least {self.score:g}")
        _show(display, heading, [(image["file_name"], words[image["id"]] or "none") for image in self.images])
        for name in (self.FILE, "pictures/"):
            display.line(f"{self.folder}/{name}")


def _text(counts: str | bytes) -> str:
    return counts.decode() if isinstance(counts, bytes) else counts


def _show(display: Display, heading: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The first rows as a table."""
    table = Table(*heading, box=None, pad_edge=False, header_style="bold")
    for row in rows[:SHOWN]:
        table.add_row(*map(Text, row))  # names of files are no markup
    display.console.print(table)
    if len(rows) > SHOWN:
        display.line(f"... and {len(rows) - SHOWN} more")
