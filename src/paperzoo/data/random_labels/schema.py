"""The options of image data with random labels: those of its source, and which labels are random."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import create_model

from paperzoo.config.schema import Count, Fraction
from paperzoo.data.images.schema import ImageOptions, MapOptions, image_options
from paperzoo.errors import UserError


def random_label_options(chosen: Mapping[str, Any]) -> type[ImageOptions]:
    """The class for a source."""
    return _with_labels(image_options(chosen))


@lru_cache
def _with_labels(base: type[ImageOptions]) -> type[ImageOptions]:
    def check(self: Any, config: Any) -> None:
        """Each training image has one label, and all are known beforehand."""
        if isinstance(self, MapOptions):
            raise UserError(f"data.random_labels with data={self.name}: needs images of one label each")
        if self.is_stream:
            raise UserError("data.random_labels with data.streaming=true: labels of a stream are not known beforehand")
        base.check(self, config)

    parent = type(base.__name__, (base,), {"check": check, "__module__": __name__})
    # the share of the training images whose label is drawn again, and the seed of the draw: part of the fingerprint
    fields: Any = {"random_labels": (Fraction, ...), "label_seed": (Count, 0)}
    return create_model(base.__name__, __base__=parent, **fields)


SCHEMAS = {"RandomLabels": random_label_options}
