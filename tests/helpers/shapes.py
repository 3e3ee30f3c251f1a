"""Data as a module sees it before there is any: what it is built from."""

from types import SimpleNamespace


def images(classes: int = 10, chans: int = 1, size: int = 28) -> SimpleNamespace:
    """Stands for image data of so many classes, channels and pixels."""
    names = [str(number) for number in range(classes)]
    info = {"num_classes": classes, "in_chans": chans, "image_size": size, "class_names": names}
    return SimpleNamespace(info=info)
