"""The options of detection data."""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from paperzoo.config.schema import Count, Data, Fraction, Positive
from paperzoo.errors import UserError


class DetectionOptions(Data):
    """Images with objects, and how batches are made of them."""

    model_config = ConfigDict(extra="forbid")

    source: str  # a function of paperzoo.data.detection, or of one's own: where the images come from
    in_chans: Literal[3] = 3  # images are read in colour
    shorter: list[Positive] | None = None  # the shorter side is resized to one of these, drawn in training; None: as is
    longer: Positive | None = None  # the longer side is not made larger than this
    flip: Fraction = 0.5  # probability of a horizontal flip in training
    validation: Annotated[float, Field(gt=0)] | None = None  # held out of train where the source has no such split
    split_seed: Count = 0
    limit_train: Positive | None = None
    mean: Annotated[list[float], Field(min_length=3, max_length=3)]  # of pixels in [0, 1]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=3, max_length=3)]
    divisor: Positive = 32  # batches are padded to multiples of this
    group_by_aspect: bool = False  # training batches, over all ranks, are of images wider than high, or of others
    drop_last: bool = True
    workers: Count = 0
    evaluator: Literal["faster_coco_eval", "hotcoco"] = "faster_coco_eval"  # packages that count AP: C++, Rust
    on_error: Literal["raise", "skip"] = "raise"  # malformed annotations and corrupt images: stop, or count and go on

    @property
    def labelled(self) -> bool:
        """An image has objects of several classes."""
        return False

    def check(self, config: Any) -> None:
        """What does not go together."""
        if config.loss.target:
            use = "loss=task" + (
                " and model.classification_loss" if hasattr(config.model, "classification_loss") else ""
            )
            raise UserError(
                f"loss={config.loss.name} with data={self.name}: detectors have losses of their own; use {use}"
            )
        if config.mix.target:
            raise UserError(f"mix={config.mix.name} with data={self.name}: objects cannot be mixed; use mix=none")
        if self.group_by_aspect and not self.drop_last:
            raise UserError(
                "data.group_by_aspect=true: with data.drop_last=false the last batch would hold both orientations; set "
                "one of the two to its other value"
            )
        if find_spec(self.evaluator) is None:
            raise UserError(
                f"data.evaluator={self.evaluator}: the package is not installed; pip install {self.evaluator}, or take "
                "data.evaluator=faster_coco_eval"
            )
        if self.longer and self.shorter and self.longer < max(self.shorter):
            raise UserError(f"data.longer={self.longer}: is less than data.shorter={self.shorter}")


class DigitOptions(DetectionOptions):
    """Pasted digits."""

    images: Positive  # training images; validation and test have a sixth as many each
    image_size: Positive
    objects: Annotated[list[Count], Field(min_length=2, max_length=2)]  # fewest and most on an image
    digit_size: Annotated[list[Positive], Field(min_length=2, max_length=2)]  # smallest and largest, in pixels
    overlap: Fraction  # the part of a digit that one pasted later may hide
    draw_seed: Count = 0  # of the images: part of the data's fingerprint, not of the run's randomness

    def check(self, config: Any) -> None:
        """Ranges go up."""
        for name, (low, high) in (("objects", self.objects), ("digit_size", self.digit_size)):
            if low > high:
                raise UserError(f"data.{name}=[{low},{high}]: the first is larger than the second")
        if self.objects[1] > 200:
            raise UserError(f"data.objects=[{self.objects[0]},{self.objects[1]}]: at most 200 on an image")
        super().check(config)


class CocoOptions(DetectionOptions):
    """COCO's layout."""

    root: str  # holds annotations/, train2017/, val2017/; a folder, or one below paths.data_dir


class ByHeartOptions(CocoOptions):
    """A few of COCO's images."""

    images: Positive  # the first so many with objects: all three splits


class VocOptions(DetectionOptions):
    """Pascal VOC's layout."""

    root: str  # holds Annotations/, ImageSets/, JPEGImages/; a folder, or one below paths.data_dir
    train_list: str  # in ImageSets/, without .txt
    val_list: str | None = None  # None: held out of train
    test_list: str | None = None
    classes: Annotated[list[str], Field(min_length=1)] | None = None  # None: those of the objects of train_list

    def check(self, config: Any) -> None:
        """Classes have different names."""
        if self.classes and len(set(self.classes)) < len(self.classes):
            twice = next(name for name in self.classes if self.classes.count(name) > 1)
            raise UserError(f"data.classes: {twice} stands twice")
        super().check(config)


class OwnOptions(DetectionOptions):
    """Whatever a source of one's own reads."""

    model_config = ConfigDict(extra="allow")


BY_SOURCE: dict[str, type[DetectionOptions]] = {
    "paperzoo.data.detection.digits.pasted_digits": DigitOptions,
    "paperzoo.data.detection.coco.coco": CocoOptions,
    "paperzoo.data.detection.by_heart.coco_by_heart": ByHeartOptions,
    "paperzoo.data.detection.voc.voc": VocOptions,
}


def detection_options(chosen: Mapping[str, Any]) -> type[DetectionOptions]:
    """The class for a source."""
    return BY_SOURCE.get(str(chosen.get("source", "")), OwnOptions)


SCHEMAS = {"DetectionData": detection_options}
