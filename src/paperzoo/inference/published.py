"""Published weights of a paper's network, without a run: classes and preparation as its timm configuration says.

Where the paper's card has a ``published_input``, brightness and order of the channels are those.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import track
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from paperzoo import cards
from paperzoo.config import build, compose
from paperzoo.config.schema import Config
from paperzoo.data.images.decoding import CorruptImage, open_image
from paperzoo.data.images.loaders import refusal
from paperzoo.data.images.module import ImageData
from paperzoo.data.interface import Batch, make_data
from paperzoo.display import Display
from paperzoo.errors import RunError, UserError
from paperzoo.inference.loading import GROUPS, Trained
from paperzoo.inference.transforms import opened
from paperzoo.networks import official
from paperzoo.predictions.files import SUFFIX
from paperzoo.predictions.keeping import Kept
from paperzoo.runs import checkpoints
from paperzoo.tasks import making

TEST = "test"
CHANNELS = "channels"  # of a preparation: their order
IMAGENET = 1000  # classes, where the weights do not say how many


def read(words: Mapping[str, str]) -> Trained:
    """A network with published weights.

    Args:
        words: ``model``, ``model.network``, ``model.checkpoint`` and options of the model.

    Raises:
        UserError: a mistake in them, or the weights do not fit.
    """
    config = compose("train", [f"{key}={value}" for key, value in words.items()])
    content = _content(config)
    plain = config.model_dump(mode="json", by_alias=True)
    groups = {name: plain[name] for name in GROUPS}
    module = _module(groups, IMAGENET)
    if not hasattr(module.network, "reset_classifier"):
        raise UserError(
            f"model={config.model.name}: predict.py with published weights does classification; use run=<id>"
        )
    classes = _classes(module.network, content)
    if classes != IMAGENET:
        module = _module(groups, classes)
    making.load_weights(module, content, config.model.name)
    module.eval()
    module.network.requires_grad_(False)
    preparation = preparation_of(module.network, config)
    info = {"num_classes": classes, "class_names": names(classes), **_sizes(module.network, preparation)}
    name = str(config.model.checkpoint)
    return Trained(module, "classification", info, timm_transform(preparation), {**groups, "data": {}}, name)


def _content(config: Config) -> dict[str, Any]:
    """What the file of published weights holds."""
    file = config.model.checkpoint
    if not file:
        raise UserError("model.checkpoint must be given: a file of published weights, or use run=<id>")
    if file.startswith("run:"):
        raise UserError(f"model.checkpoint={file}: a run's own weights go with run={file.removeprefix('run:')}")
    content = checkpoints.read_plain(Path(file))
    if isinstance(content, Mapping) and making.of_run(content) is not None:  # its classes are not ImageNet's
        raise UserError(f"model.checkpoint={file}: is a run's checkpoint; a run's own weights go with run=<id>")
    return content


def evaluate(config: Config, keep: str | None = None) -> dict[str, float]:
    """The metrics of published weights on a test split, prepared as their network's timm configuration says.

    Args:
        config: as of a training run; nothing is trained, and no record is written.
        keep: the folder that the predictions of each sample go to; None keeps none.

    Raises:
        UserError: the weights do not fit the network, know other classes than the data, or the predictions would
            replace others.
        RunError: an image cannot be read.
    """
    content = _content(config)
    data = make_data(config)
    module: Any = making.make_module(config, data)
    if config.data.task != "classification" or not isinstance(data, ImageData):
        raise UserError(f"data={config.data.name}: published weights are evaluated on images with a label each")
    classes = _classes(module.network, content)
    if classes != data.num_classes:
        raise UserError(
            f"model.checkpoint={config.model.checkpoint}: knows {classes} classes, data={config.data.name} has "
            f"{data.num_classes}"
        )
    preparation = preparation_of(module.network, config)
    taken = preparation["input_size"][0]
    if data.in_chans != taken:
        raise UserError(
            f"data={config.data.name}: has images of {data.in_chans} channel(s), {config.model.network} is published "
            f"for {taken}; set data.in_chans={taken}"
        )
    file = _place(config, keep) if keep else None
    making.load_weights(module, content, config.model.name)
    kept = Kept(module, config.data.task) if file else None
    with kept or nullcontext():
        metrics = _measured(module, _Prepared(data, preparation), config, kept)
    display = Display()
    prepared = {
        name: preparation[name] for name in ("input_size", "crop_pct", "interpolation", "mean", "std", CHANNELS)
    }
    display.line(f"{config.model.network} with {config.model.checkpoint} on {data.description}")
    display.line(escape(f"prepared by {', '.join(f'{name}={value}' for name, value in prepared.items())}"))
    display.results({"published": (0, metrics)}, type(module).metrics)
    if kept and file:
        of: dict[str, Any] = {"run": None, "network": config.model.network, "checkpoint": config.model.checkpoint}
        of |= {"weights": "published", "data": data.description, "split": TEST, "epoch": 0, "metrics": metrics}
        of |= {"class_names": [str(name) for name in data.info["class_names"]]}
        of |= {"measures": [metric._asdict() for metric in type(module).metrics]}
        kept.store(file, of, f"{config.model.network} on {config.data.name}: {TEST} split, published weights")
    return metrics


def _place(config: Config, folder: str) -> Path:
    """The file of predictions.

    Raises:
        UserError: it is there already.
    """
    path = Path(folder) / f"{config.model.network}_{config.data.name}_{TEST}{SUFFIX}"
    if path.exists():
        raise UserError(f"out={folder}: holds {path.name} already; name another folder, or remove it")
    return path


@torch.inference_mode()
def _measured(module: Any, images: "_Prepared", config: Config, kept: Kept | None) -> dict[str, float]:
    """The metrics of a split; its length is shown as it goes."""
    trainer = config.trainer
    device = torch.device("cuda" if trainer.accelerator != "cpu" and torch.cuda.is_available() else "cpu")
    module.eval().to(device)
    module.mean_losses.set_dtype(torch.float64)
    loader = DataLoader(images, config.data.eval_batch_size, num_workers=getattr(config.data, "workers", 0))
    done = 0
    for inputs, labels in track(loader, "evaluating", console=Console(stderr=True), transient=True):
        if kept:
            kept.begin(torch.arange(done, done + len(labels)))
            done += len(labels)
        module.evaluate(Batch(inputs.to(device, module.dtype), labels.to(device)))
    return {f"{TEST}/{name}": value for name, value in module.compute(TEST).items()}


class _Prepared(Dataset[tuple[Tensor, int]]):
    """The test images as timm prepares them, from how they are stored."""

    def __init__(self, data: ImageData, preparation: dict[str, Any]) -> None:
        self.part, self.transform = data.parts[TEST], timm_transform(preparation)

    def __len__(self) -> int:
        return len(self.part)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        row = int(self.part.rows[place])
        try:
            image = open_image(self.part.split.read(row))
        except CorruptImage as error:
            raise RunError(refusal(self.part.split.where(row), error)) from None
        return self.transform(image), int(self.part.labels[place])


def _module(groups: dict[str, Any], classes: int) -> Any:
    info = {"num_classes": classes, "in_chans": 3, "image_size": 224, "class_names": names(classes)}
    info |= {"mean": [0.0] * 3, "std": [1.0] * 3}
    with torch.random.fork_rng(devices=[]):
        return build(groups["model"]["_target_"], **groups, info=info)


def _classes(network: Any, content: Any) -> int:
    """How many classes the weights know."""
    weight = official.unwrap(content).get(f"{official.classifier_name(network)}.weight")
    return IMAGENET if weight is None else len(weight)


def names(classes: int) -> list[str]:
    """ImageNet's, where there are as many classes; else their numbers."""
    if classes != IMAGENET:
        return [str(k) for k in range(classes)]
    from timm.data import ImageNetInfo

    known = ImageNetInfo()
    return [known.index_to_description(k) for k in range(classes)]


def preparation_of(network: Any, config: Config) -> dict[str, Any]:
    """Timm's configuration of a network, with what the paper's card says of the authors' weights."""
    preparation = {**resolve_model_data_config(network), CHANNELS: "rgb"}
    model = config.model
    own = cards.load(model.name).published_input if model.name in cards.slugs() else None
    if own is None or not fnmatch(model.network, own.networks):
        return preparation
    chans = preparation["input_size"][0]
    return {**preparation, "mean": (0.0,) * chans, "std": (1 / own.white,) * chans, CHANNELS: own.channels}


def timm_transform(preparation: dict[str, Any]) -> Any:
    """Timm's transform for evaluation: the crop ratio and the interpolation are the network's."""
    known = {name: value for name, value in preparation.items() if name != CHANNELS}
    transform = create_transform(**known, is_training=False)
    return partial(_as_timm, transform, preparation["input_size"][0], preparation.get(CHANNELS) == "bgr")


def _as_timm(transform: Any, chans: int, reverse: bool, image: Any) -> Tensor:
    prepared: Tensor = transform(opened(image).convert("L" if chans == 1 else "RGB"))
    return prepared.flip(0) if reverse else prepared


def _sizes(network: Any, preparation: dict[str, Any]) -> dict[str, Any]:
    chans, size, _ = preparation["input_size"]
    kept = {name: preparation[name] for name in ("interpolation", "crop_pct", "crop_mode")}
    moments = {name: list(preparation[name]) for name in ("mean", "std")}
    return {"in_chans": chans, "image_size": size, **moments, **kept, CHANNELS: preparation[CHANNELS]}
