"""The options of image data, and what of them does not go together."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from paperzoo.config.messages import show
from paperzoo.config.schema import Count, Data, Fraction, Node, Positive
from paperzoo.errors import UserError

NEED_LOSS = {  # tasks of images whose networks come without a loss, and one that they can have
    "classification": "loss=cross_entropy",
    "segmentation": "loss=cross_entropy",
    "retrieval": "one of embeddings, as loss=triplet",
}
SHUFFLED = "paperzoo.data.samplers.shuffled"


class Augment(Node):
    """Random changes of a training image, drawn again for every image in every epoch."""

    crop_padding: Count = 0  # pad by so many pixels, then crop at a random place
    flip: Fraction = 0.0  # probability of a horizontal flip
    resized_crop: bool = False  # RandomResizedCrop(0.08, 1), the ImageNet recipe; needs image_size


class ImageOptions(Data):
    """A data set of images and how batches are made of it."""

    model_config = ConfigDict(extra="forbid")

    source: str  # a function of paperzoo.data.images, or of one's own: where the images come from
    image_size: Positive | None = None  # resize to this many pixels; None keeps the data set's own size
    in_chans: Literal[1, 3] | None = None  # None keeps the data set's own
    validation: Annotated[float, Field(gt=0)]  # held out of train: a number of images, or a fraction below 1
    test: Annotated[float, Field(gt=0)] | None = None  # likewise, where the source has no test split of its own
    split_seed: Count  # of the split alone: part of the data's fingerprint, not of the run's randomness
    limit_train: Positive | None = None  # train on a stratified subset of so many images
    augment: Augment
    mean: list[float] | None = None  # per channel, of pixels in [0, 1]; None measures the training split
    std: list[Annotated[float, Field(gt=0)]] | None = None
    drop_last: bool = True  # leave out the last, smaller batch of an epoch
    in_memory: bool | None = None  # decode once to uint8; None decides by size
    workers: Count = 0  # processes that decode where data is not in memory
    on_error: Literal["raise", "skip"] = "raise"  # a corrupt image: stop, or count it and go on

    @property
    def is_stream(self) -> bool:
        """Whether training images come as a stream."""
        return False

    def check(self, config: Any) -> None:
        """What does not go together."""
        self.check_task()
        if self.task in NEED_LOSS and not config.loss.target:
            raise UserError(f"loss={config.loss.name}: {self.task} has none of its own; use {NEED_LOSS[self.task]}")
        _crops(self)
        _moments(self)
        for name, value in (("validation", self.validation), ("test", self.test)):
            if value is not None and value >= 1 and value != int(value):
                raise UserError(f"data.{name}={value:g}: must be a whole number of images, or a fraction below 1")
        _batches(self, config)

    def check_task(self) -> None:
        """Images without maps are for no task of maps."""
        if self.task == "segmentation":
            raise UserError(f"data.task={self.task}: data={self.name} has no maps; leave it away")


class FolderOptions(ImageOptions):
    """A folder of images."""

    root: str  # holds train/ and optionally val/ and test/, or class folders directly

    def check(self, config: Any) -> None:
        """The folder is there."""
        _folder(f"data.root={self.root}", Path(self.root).expanduser())
        super().check(config)


class HuggingFaceOptions(ImageOptions):
    """A Hugging Face data set."""

    path: str | None = None  # hub name or a folder of Parquet files; None looks in paths.data_dir, then on the hub
    hub: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    train_split: str = "train"
    test_split: str | None = None
    streaming: bool = False

    @property
    def is_stream(self) -> bool:
        """As configured."""
        return self.streaming

    def check(self, config: Any) -> None:
        """The place is there, and test images are not trained on."""
        if self.path and self.path.startswith((".", "/", "~")):  # else it may be a name on the hub
            _folder(f"data.path={self.path}", Path(self.path).expanduser())
        if self.name == "hf" and not self.path:
            raise UserError(
                "data.path must be given with data=hf: a hub name such as ylecun/mnist, or a folder of Parquet files"
            )
        _no_leak(self.train_split, self.test_split)
        super().check(config)
        if self.streaming and self.in_memory:
            raise UserError(
                "data.streaming=true with data.in_memory=true: they exclude each other; leave one null or false"
            )
        if self.streaming and config.sampler.target != SHUFFLED:
            raise UserError(
                f"sampler={config.sampler.name} with data.streaming=true: a stream comes in its own order; use "
                "sampler=shuffled, or data.streaming=false"
            )


class MapOptions(ImageOptions):
    """Images with a class for every pixel."""

    def check(self, config: Any) -> None:
        """Maps are neither mixed nor cropped by area."""
        if config.mix.target:
            raise UserError(
                f"mix={config.mix.name} with data={self.name}: mixes images of one label each; use mix=none"
            )
        if self.augment.resized_crop:
            raise UserError(f"data.augment.resized_crop=true with data={self.name}: maps cannot be; use crop_padding")
        super().check(config)

    def check_task(self) -> None:
        """Maps are for segmentation alone."""
        if self.task != "segmentation":
            raise UserError(f"data.task={self.task}: data={self.name} has maps; leave it away")


class OwnOptions(ImageOptions):
    """Whatever a source of one's own reads."""

    model_config = ConfigDict(extra="allow")

    def check_task(self) -> None:
        """Whatever its author says."""


BY_SOURCE: dict[str, type[ImageOptions]] = {"image_folder": FolderOptions, "huggingface": HuggingFaceOptions}


def image_options(chosen: Mapping[str, Any]) -> type[ImageOptions]:
    """The class for a source; one of one's own takes those of all images."""
    source = str(chosen.get("source", ""))
    if source.startswith("paperzoo.data.images.maps."):
        return MapOptions
    own = not source.startswith("paperzoo.")
    return OwnOptions if own else BY_SOURCE.get(source.rpartition(".")[2], ImageOptions)


def _crops(data: ImageOptions) -> None:
    augment = data.augment
    if augment.resized_crop and data.image_size is None:
        raise UserError("data.augment.resized_crop=true: needs data.image_size, the size that it crops to")
    if augment.resized_crop and augment.crop_padding:
        raise UserError(
            "data.augment.resized_crop=true with data.augment.crop_padding: one kind of crop; set crop_padding=0"
        )
    if augment.resized_crop and data.in_memory:
        raise UserError(
            "data.augment.resized_crop=true with data.in_memory=true: crops of the original need in_memory=false"
        )


def _moments(data: ImageOptions) -> None:
    if (data.mean is None) != (data.std is None):
        raise UserError("data.mean and data.std: give both, or neither to have them measured")
    for name, values in (("mean", data.mean), ("std", data.std)):
        if values is not None and len(values) not in (1, 3):
            raise UserError(f"data.{name}={show(values)}: must have 1 or 3 numbers, one per channel")
        if values is not None and data.in_chans and len(values) not in (1, data.in_chans):
            raise UserError(
                f"data.{name}={show(values)}: must have one number, or {data.in_chans} as data.in_chans says"
            )


def _batches(data: ImageOptions, config: Any) -> None:
    ranks = config.trainer.devices * config.trainer.num_nodes
    if data.limit_train and data.drop_last and data.limit_train < data.batch_size * ranks:
        raise UserError(
            f"data.limit_train={data.limit_train}: is less than one batch of {data.batch_size} on each of {ranks} "
            "device(s), and data.drop_last=true would drop it; lower data.batch_size"
        )


def _no_leak(train_split: str, test_split: str | None) -> None:
    """Test images must not be trained on. Two slices of a split are left to the user."""
    train, test = _whole(train_split), _whole(test_split or "")
    both = [name for name in test if name in train and (train[name] or test[name])]
    if "all" in train and test:  # the word of Hugging Face for every split
        both = list(test)
    if both or "all" in test:
        raise UserError(
            f"data.test_split={test_split}: {(both or ['all'])[0]} is in data.train_split={train_split}, "
            "too; test on images that are not trained on (slices: train[:80%] and train[80%:])"
        )


def _whole(text: str) -> dict[str, bool]:
    """The splits that an expression such as ``train[:80%]+extra`` names, and whether it takes all of each."""
    found: dict[str, bool] = {}
    for name, bracket in re.findall(r"([A-Za-z_][\w.-]*)(\[[^\]]*\]|)", re.sub(r"\(.*?\)", "", text)):
        found[name] = found.get(name, False) or not bracket
    return found


def _folder(given: str, folder: Path) -> None:
    if folder.is_file():
        raise UserError(f"{given}: is a file; give the folder that holds the images")
    if not folder.is_dir():
        raise UserError(f"{given}: there is no such folder; give the folder that holds the images")
    if next(folder.iterdir(), None) is None:
        raise UserError(f"{given}: the folder is empty; give the folder that holds the images")


SCHEMAS = {"ImageData": image_options}
