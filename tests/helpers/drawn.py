"""Data that tests draw: folders of images, and Parquet files as Hugging Face data sets have them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
from composed import compose
from PIL import Image

from paperzoo.data.images.module import ImageData


def picture(number: int, size: tuple[int, int] = (12, 12), mode: str = "RGB") -> Image.Image:
    """A picture of noise that is a function of its number."""
    generator = np.random.default_rng(number)
    shape = (size[1], size[0]) if mode == "L" else (size[1], size[0], 3)
    return Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """An image's file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def folder(root: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 20, **options: Any) -> Path:
    """``root/<class>/<number>.png``."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(each):
            picture(1000 * label + index, **options).save(root / name / f"{index:03}.png")
    return root


def parquet(
    root: Path, rows: int = 60, *, label: Any = None, images: list[bytes] | None = None, **columns: Any
) -> Path:
    """A data set of one train and one test file, with an Image and a ClassLabel column."""
    import datasets

    root.mkdir(parents=True)
    names = label or datasets.ClassLabel(names=["a", "b", "c"])
    for split, offset in (("train", 0), ("test", 500)):
        content = images if images and split == "train" else [encoded(picture(offset + i)) for i in range(rows)]
        table = {
            "image": [{"bytes": data, "path": None} for data in content],
            "label": columns.get("labels")
            if columns.get("labels") and split == "train"
            else [i % 3 for i in range(len(content))],
        }
        features = datasets.Features({"image": datasets.Image(), "label": names})
        datasets.Dataset.from_dict(table, features=features).to_parquet(str(root / f"{split}-00000-of-00001.parquet"))
    return root


def load(*overrides: str, seed: int = 0, rank: int = 0, world_size: int = 1, data_dir: str = "data") -> ImageData:
    """Data as a command line configures it, set up."""
    config = compose("train", ["model=resnet", *overrides])
    data = ImageData(config.data, data_dir=data_dir, seed=seed, rank=rank, world_size=world_size)
    data.setup()
    return data


def batches(data: ImageData, epoch: int = 0) -> list[tuple[Any, Any]]:
    """An epoch's augmented and normalised training batches."""
    loader = data.train_dataloader()
    loader.order.set_epoch(epoch)
    return [data.on_after_batch_transfer(batch, 0) for batch in loader]
