"""The options of images that are changed in training."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any

from pydantic import ConfigDict, Field, create_model

from paperzoo.config.schema import Fraction, Node, Positive
from paperzoo.data.images.schema import ImageOptions, image_options
from paperzoo.errors import UserError


class Policy(Node):
    """Which changes, of torchvision's ``transforms.v2``, in this order; what is left out is not done."""

    rand_augment: Annotated[int, Field(ge=0, le=30)] | None = None  # RandAugment's magnitude; usual is 9
    operations: Positive = 2  # of RandAugment, for each image
    brightness: Annotated[float, Field(ge=0)] = 0.0  # ColorJitter: a factor from 1 - b to 1 + b
    contrast: Annotated[float, Field(ge=0)] = 0.0  # likewise
    saturation: Annotated[float, Field(ge=0)] = 0.0  # likewise
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.0  # a shift from -h to h
    erase: Fraction = 0.0  # RandomErasing's probability: a rectangle becomes the mean colour


class Augmented(ImageOptions):
    """Images with a policy."""

    model_config = ConfigDict(extra="forbid")

    policy: Policy = Policy()

    def check(self, config: Any) -> None:
        """Maps and boxes would have to be moved along."""
        super().check(config)
        if self.task not in ("classification", "retrieval"):
            raise UserError(f"data={self.name}: its policy moves images, not what belongs to their pixels; leave it")


def options(chosen: Mapping[str, Any]) -> type[ImageOptions]:
    """The class for a source, with the policy.

    Raises:
        UserError: the data is no labelled images, whose keys include those of a crop and a flip.
    """
    if "augment" not in chosen:
        raise UserError(f"data={chosen.get('name')}: is no images with labels, which augment= is for; leave that away")
    return _with_policy(image_options(chosen))


@lru_cache
def _with_policy(base: type[ImageOptions]) -> type[ImageOptions]:
    return create_model("Augmented", __base__=(Augmented, base))


SCHEMAS = {"AugmentedImages": options}
