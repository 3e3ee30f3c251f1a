"""Hugging Face image data sets: folders of Parquet files, names on the hub, streams."""

import difflib
import errno
import re
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies_environment

import numpy as np

from paperzoo.data.fingerprint import WHOLE, digest_of_file, fingerprint
from paperzoo.data.images.decoding import Raw
from paperzoo.data.images.schema import HuggingFaceOptions
from paperzoo.data.images.stored import Arrays, Source, Stream, Table, bytes_of, few
from paperzoo.errors import RunError, UserError

NUMBER = "paperzoo_number"  # of a row in its stream


def huggingface(config: HuggingFaceOptions, data_dir: Path) -> Source:
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
    place: str,
    config: HuggingFaceOptions,
    columns: tuple[str, str],
    trained: Any,
    classes: list[str],
    files: dict[str, list[str]],
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
                f"classes: {few(classes)}"
            )
    return _table(test, image, label, index, _what(place, split))


def _place(config: HuggingFaceOptions, data_dir: Path) -> str:
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


def _columns(features: Any, config: HuggingFaceOptions, place: str) -> tuple[str, str]:
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


LABELS = ("int", "uint", "string", "large_string", "bool")
SHUFFLE_BUFFER = 1000  # images that a stream is shuffled within


def _streamed(place: str, config: HuggingFaceOptions) -> Source:
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
            yield number, bytes_of(row[image]), int(target)


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
