"""A few images that a detector must learn by heart: the first check of a detector on data of one's own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from paperzoo.data.detection.coco import Annotated, coco
from paperzoo.data.detection.samples import Source
from paperzoo.errors import UserError


def coco_by_heart(config: Any, data_dir: Path) -> Source:
    """The first ``data.images`` images with objects of COCO's train2017: all three splits are these.

    Raises:
        UserError: there are fewer, or as ``coco`` says.
    """
    whole = coco(config, data_dir)
    assert isinstance(whole.train, Annotated)
    entries = [entry for entry in whole.train.entries if entry.annotations]
    if len(entries) < config.images:
        raise UserError(f"data.images={config.images}: {config.root} has {len(entries)} training images with objects")
    few = replace(whole.train, entries=entries[: config.images])
    return replace(whole, train=few, val=few, test=few)
