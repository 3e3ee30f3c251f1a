"""Photos that are named on the command line: files, and folders at any depth."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from paperzoo.data.images.decoding import CorruptImage, open_image
from paperzoo.errors import UserError


class Photo(NamedTuple):
    """A file, and what it is called in the results: its path below the folder that was named, ``printable``."""

    path: Path
    name: str


class Read(NamedTuple):
    """A photo that could be read."""

    photo: Photo
    pixels: Any  # (C, h, w) uint8, or floats of a transform that gives no pixels
    size: tuple[int, int]  # (height, width) as it is seen


def printable(name: str | Path) -> str:
    """A file's name in one line that any file can hold: line breaks, and bytes that are no UTF-8, are escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(name))


def suffixes() -> set[str]:
    """Of the files that are looked for in folders: all kinds that Pillow reads."""
    Image.init()
    return {suffix for suffix, kind in Image.EXTENSION.items() if kind in Image.OPEN}


def find(words: Sequence[str]) -> list[Photo]:
    """The photos that words name; a file is taken whatever it is called. Hidden files of folders are left out.

    Raises:
        UserError: none is named, one is not there, or a folder has none.
    """
    if not words:
        raise UserError("which photos? name files or folders: python src/predict.py run=<id> photos/")
    known = suffixes()
    found: dict[Path, str] = {}
    for word in words:
        path = Path(word).expanduser()
        if path.is_dir():
            inside = list(_below(path, known))
            if not inside:
                raise UserError(f"{printable(word)}: holds no images")
            found |= {file: file.relative_to(path).as_posix() for file in inside if file not in found}
        elif path.exists():
            found.setdefault(path, path.name)
        else:
            raise UserError(f"{printable(word)}: there is no such file or folder")
    names = _distinct(map(printable, found.values()))
    return [Photo(path, name) for path, name in zip(found, names, strict=True)]


def _below(folder: Path, known: set[str]) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in known and not hidden and not path.is_dir():
            yield path


def _distinct(names: Iterable[str]) -> Iterator[str]:
    """Names that stand twice get a number: results of two folders must not overwrite each other."""
    used: set[str] = set()
    for name in names:
        chosen, number = name, 1
        while chosen in used:
            number += 1
            path = Path(name)
            chosen = path.with_name(f"{path.stem}_{number}{path.suffix}").as_posix()
        used.add(chosen)
        yield chosen


def read(photo: Photo, transform: Any) -> Read:
    """A photo, turned as its EXIF tag says, in the form that a network takes.

    Raises:
        CorruptImage: it cannot be read; the message says why.
    """
    if not photo.path.is_file():  # a pipe would be waited for
        raise CorruptImage("there is no such file any more" if not photo.path.exists() else "is no file")
    try:
        with warnings.catch_warnings():  # Pillow's, of a damaged tag, say: the pixels can be read
            warnings.simplefilter("ignore")
            image = open_image(photo.path)
            if image.mode == "F" and not np.isfinite(np.asarray(image)).all():
                raise CorruptImage("holds pixels that are no number")
            return Read(photo, getattr(transform, "pixels", transform)(image), (image.height, image.width))
    except CorruptImage:
        raise
    except Exception as error:  # decoders fail in their own ways
        raise CorruptImage(str(error).splitlines()[0] if str(error) else type(error).__name__) from None
