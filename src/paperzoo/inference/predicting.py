"""``predict.py``: photos through a trained network, what it says of each into files and a table."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from paperzoo.data.images.decoding import CorruptImage
from paperzoo.display import Display
from paperzoo.errors import UserError
from paperzoo.inference import loading, photos
from paperzoo.inference.loading import Trained
from paperzoo.inference.photos import Photo, Read
from paperzoo.inference.results import Boxes, Classes, Maps, Results
from paperzoo.norms.single import explained

KINDS: dict[str, Callable[..., Results]] = {"classification": Classes, "segmentation": Maps, "detection": Boxes}


def run(
    words: Sequence[str],
    trained: Trained,
    out: str,
    *,
    top: int = 5,
    score: float = 0.5,
    batch_size: int = 32,
    device: str = "cpu",
) -> int:
    """Predict, write, and say what was written; the number of photos that were left out.

    Args:
        words: files and folders.
        trained: see ``loading.read``.
        out: the folder of the results.
        top: classes of a photo that are listed.
        score: from which on a detection is drawn.
        batch_size: photos that the network is given together.
        device: where it computes.

    Raises:
        UserError: there is nothing to predict, the task has no pictures, or the results would replace others.
    """
    if trained.task not in KINDS:
        raise UserError(f"run={trained.name}: is of {trained.task}; predict.py does {', '.join(KINDS)}")
    found = photos.find(words)
    folder = Path(out)
    results = KINDS[trained.task](trained, folder, top=top, score=score)
    trained.module.to(_device(device))
    skipped: list[tuple[Photo, str]] = []
    with _progress() as bar:
        task = bar.add_task("predicting", total=len(found))
        for batch in _batches(found, trained.transform, batch_size, skipped, lambda: bar.advance(task)):
            results.add(batch, _predicted(trained, batch, device))
    display = Display()
    for photo, why in skipped:
        display.line(escape(f"skipped {photos.printable(photo.path)}: {why}"))
    if len(skipped) == len(found):
        named = photos.printable(", ".join(words))
        raise UserError(f"{named}: none of the {len(found)} files can be read as an image")
    results.finish(display)
    if skipped:
        display.line(f"{len(found) - len(skipped)} photos predicted, {len(skipped)} skipped")
    return len(skipped)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"device={name}: must be cpu, cuda, cuda:1, ... or mps")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UserError(f"device={name}: there are {torch.cuda.device_count()} GPUs that torch can use here")
    return device


def _progress() -> Progress:
    """On stderr, so that the table can go through a pipe."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _batches(
    found: Sequence[Photo], transform: Any, size: int, skipped: list[tuple[Photo, str]], step: Callable[[], None]
) -> Iterator[list[Read]]:
    """Photos read one after the other, so many together; those that cannot be read go to ``skipped``."""
    batch: list[Read] = []
    for photo in found:
        try:
            batch.append(photos.read(photo, transform))
        except CorruptImage as error:
            skipped.append((photo, str(error)))
        step()
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


@torch.inference_mode()
def _predicted(trained: Trained, batch: Sequence[Read], device: str) -> Any:
    """Logits (B, K) or (B, K, h, w) of a batch, or the detections of each image."""
    module: Any = trained.module
    transform, network = trained.transform, module.network
    if trained.task == "detection":
        images = transform.batch([transform.normalise(read.pixels) for read in batch]).to(device)
        sizes = [(read.pixels.shape[1], read.pixels.shape[2]) for read in batch]
        every = network.detect(images, sizes, **module.detecting)
        return [{name: value.cpu() for name, value in one.items()} for one in every]
    pixels = torch.stack([read.pixels for read in batch]).to(device)
    images = transform.normalise(pixels) if hasattr(transform, "normalise") else pixels
    with explained(len(images), tuple(images.shape[2:])):
        return network(images).cpu()


def trained_of(run_id: str, weights: str, runs_dir: str, published: dict[str, str]) -> Trained:
    """A run's module, or published weights of a paper's network.

    Raises:
        UserError: neither or both are named.
    """
    if bool(run_id) == bool(published):
        raise UserError("which network? run=<id>, or model= model.network= model.checkpoint= of published weights")
    if run_id:
        return loading.read(run_id, weights, runs_dir=runs_dir)
    from paperzoo.inference import published as of_papers

    return of_papers.read(published)
