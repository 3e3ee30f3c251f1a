"""Images as they are stored, read one by one: arrays, files, columns of a table, a stream."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from paperzoo.data.images.decoding import Raw


class Split(ABC):
    """Images that are read one by one, their labels (N,) int64, and how each is named in a message."""

    labels: np.ndarray
    planes: ClassVar[int] = 0  # beside the image's channels: a map of labels is one

    def labelled(self, row: int, pixels: np.ndarray) -> np.ndarray:
        """An image's pixels (C, H, W) with its further planes."""
        return pixels

    @abstractmethod
    def read(self, row: int) -> Raw:
        """An image as it is stored."""

    def stored(self, row: int) -> Raw | memoryview:
        """Likewise, to be hashed: not copied where it need not be."""
        return self.read(row)

    @abstractmethod
    def where(self, row: int) -> str:
        """What to call an image in a message."""

    @abstractmethod
    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """Bytes of each stored image."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Arrays(Split):
    """Pixels in memory: (N, H, W) uint8."""

    pixels: np.ndarray
    labels: np.ndarray
    name: str

    def read(self, row: int) -> Raw:
        """See ``Split``."""
        return self.pixels[row]

    def where(self, row: int) -> str:
        """See ``Split``."""
        return f"{self.name}, row {row}"

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """See ``Split``."""
        return np.full(len(rows), self.pixels[0].nbytes if len(self.pixels) else 0)


@dataclass
class Files(Split):
    """An image a file."""

    paths: list[Path]
    labels: np.ndarray

    def read(self, row: int) -> Raw:
        """See ``Split``."""
        return self.paths[row]

    def where(self, row: int) -> str:
        """See ``Split``."""
        return str(self.paths[row])

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """See ``Split``."""
        return np.array([self.paths[int(row)].stat().st_size for row in rows], dtype=np.int64)


@dataclass
class Table(Split):
    """Rows of a Hugging Face data set. Pickled for a worker, it takes the path of its table along, not the content."""

    part: Any
    image: str
    labels: np.ndarray
    name: str

    @cached_property
    def column(self) -> Any:
        """The stored images, in chunks of the file; None where the table's rows were chosen again."""
        return self.part.data.column(self.image) if not self.part._indices else None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "column"}

    def read(self, row: int) -> Raw:
        """See ``Split``."""
        return bytes_of(self.column[row].as_py() if self.column is not None else self.part[row][self.image])

    def stored(self, row: int) -> Raw | memoryview:
        """See ``Split``: a view of the file, of which only what is looked at is read (a scalar would be a copy)."""
        import pyarrow as pa

        if self.column is None:
            return self.read(row)
        cell = self.column.slice(row, 1).chunk(0)
        if pa.types.is_struct(cell.type):
            cell = cell.field("bytes")
        wide = pa.types.is_large_binary(cell.type)
        if cell.null_count or not (wide or pa.types.is_binary(cell.type)):
            return self.read(row)
        _, offsets, content = cell.buffers()
        first, last = np.frombuffer(offsets, np.int64 if wide else np.int32)[cell.offset : cell.offset + 2]
        return memoryview(content)[first:last]

    def where(self, row: int) -> str:
        """See ``Split``."""
        return f"{self.name}, row {row}"

    def sizes(self, rows: np.ndarray) -> np.ndarray:
        """See ``Split``."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if self.column is None:
            return np.array([encoded_size(self.read(int(row))) for row in rows], dtype=np.int64)
        stored = pc.struct_field(self.column, "bytes") if pa.types.is_struct(self.column.type) else self.column
        sizes = pc.fill_null(pc.binary_length(stored), -1).to_numpy().astype(np.int64)[rows]
        for place in np.flatnonzero(sizes < 0):  # named by a path
            sizes[place] = encoded_size(self.read(int(rows[place])))
        return sizes


def encoded_size(raw: Raw) -> int:
    """Bytes of a stored image."""
    if isinstance(raw, Path):
        return raw.stat().st_size if raw.is_file() else 0
    return raw.nbytes if isinstance(raw, np.ndarray) else len(raw)


@dataclass
class Source:
    """The splits that a source has of its own; what is missing is held out of train."""

    classes: list[str]
    train: Split
    val: Split | None = None
    test: Split | None = None
    version: Callable[[], str] = str  # of a stream, whose rows are not known before they have been read
    stream: "Stream | None" = None  # of train, where it is not to be stored


@dataclass
class Stream:
    """Training images that are read in order and not stored."""

    # (skip, take, shuffle seed or None) -> number in the stream, image, label
    rows: Callable[[int, int, int | None], Iterable[tuple[int, Raw, int]]]
    length: int


def bytes_of(cell: Any) -> Raw:
    """The bytes (or the file) in a column's cell."""
    if isinstance(cell, dict):
        if cell.get("bytes") is None and cell.get("path"):
            return Path(cell["path"])
        cell = cell.get("bytes")
    return b"" if cell is None else cell


def few(names: Sequence[str]) -> str:
    """The first ten of some names, for a message."""
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
