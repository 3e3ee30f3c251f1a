"""Batch normalisation in training needs two numbers per channel: one image whose maps have one pixel has one."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from paperzoo.errors import UserError
from paperzoo.norms.sync import SyncBatchNorm

TOO_FEW = ("Expected more than 1 value per channel", "Expected more than 1 spatial element")  # torch's words


def needs_two(module: nn.Module) -> bool:
    """Whether a layer, in its mode, cannot do with one number per channel; other ranks' images would add some."""
    alone = isinstance(module, _BatchNorm) and not isinstance(module, (SyncBatchNorm, nn.SyncBatchNorm))
    return alone and module.training


@contextmanager
def explained(batch: int, size: tuple[int, ...]) -> Iterator[None]:
    """Say in one line what to change, where torch refuses maps of one pixel.

    Args:
        batch: images.
        size: (H, W) of them.

    Raises:
        UserError: in place of torch's ValueError.
    """
    try:
        yield
    except ValueError as error:
        if not str(error).startswith(TOO_FEW):
            raise
        instance = str(error).startswith(TOO_FEW[1])
        images = "images" if batch > 1 else "image"
        fewer = "one pixel per map" if instance else "a batch of 1 and maps of one pixel"
        more = "" if instance else "data.batch_size of at least 2 (and data.drop_last=true), "
        raise UserError(
            f"{batch} {images} of {'x'.join(map(str, size))}: the network brings them to maps of one pixel, and"
            f" {'InstanceNorm' if instance else 'BatchNorm'} cannot train on {fewer}; use {more}a larger"
            " data.image_size, or norm=group"
        ) from None
