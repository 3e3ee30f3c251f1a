"""``export.py``: a network in a file that others can run, checked on real data in a fresh process."""

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from paperzoo.config.schema import Paths
from paperzoo.data.images.decoding import CorruptImage
from paperzoo.data.images.maps import IGNORED
from paperzoo.data.interface import make_data
from paperzoo.display import Display
from paperzoo.errors import RunError, UserError
from paperzoo.evaluation import demand_same, one_device
from paperzoo.inference import elsewhere, loading, safetensors
from paperzoo.inference.loading import Trained
from paperzoo.inference.photos import find
from paperzoo.inference.photos import read as read_photo
from paperzoo.reproduction import as_recorded
from paperzoo.runs import folders, record

TOLERANCE = 1e-5  # of outputs, relative to the largest where that is above 1
MOST_BATCH = 4096  # images that an exported program takes together
TRACEABLE = ("classification", "segmentation", "retrieval")  # tasks whose network is one function of a batch of images


class Real(NamedTuple):
    """Real data, in the batches that a network is given."""

    inputs: list[Tensor]
    targets: list[Any]  # labels (B,) or maps (B, h, w); empty where there are none
    words: str


class Format(NamedTuple):
    """How a file is written, what that needs, and whether it runs without Paperzoo."""

    suffix: str
    write: Callable[[Trained, Tensor, Path], None]
    packages: tuple[str, ...]
    alone: bool


def run(
    run: str,
    out: str | None = None,
    *,
    format: str,  # noqa: A002 (the word of the command line)
    weights: str = "last",
    member: int | None = None,
    images: int = 500,
    photos: str | None = None,
    runs_dir: str = "runs",
    data_dir: str = "data",
) -> Path:
    """Export, check, and say what came of it.

    Args:
        run: its id or folder, or one of its checkpoints.
        out: the file; None names it after the run.
        format: onnx, torch_export or safetensors.
        weights: last, best, or step_<n>.
        member: of an ensemble, from 0: its network alone; None: the whole.
        images: how many of the test split it is checked on.
        photos: a folder of photos to check it on, where the run's data is not here.
        runs_dir, data_dir: places.

    Raises:
        UserError: the file is there, a package is missing, or the network cannot be exported.
        RunError: the file does not give the network's outputs; nothing is left of it.
    """
    form = format
    if form not in FORMATS:
        raise UserError(f"format={form}: must be one of {', '.join(FORMATS)}")
    chosen = FORMATS[form]
    _demand_packages(form, chosen)
    trained = loading.read(run, weights, runs_dir=runs_dir)
    trained = trained if member is None else loading.member_of(trained, member)
    if chosen.alone and trained.task not in TRACEABLE:
        raise UserError(
            f"format={form}: a network of {trained.task} is no function of one batch; use format=safetensors"
        )
    path = Path(out or f"{Path(trained.name).stem}{chosen.suffix}")
    if path.exists():
        raise UserError(f"out={path}: is there already; name another file, or remove it")
    places = Paths(runs_dir=runs_dir, data_dir=data_dir)
    real = _photos(trained, photos) if photos else _test_images(trained, run, images, places)
    expected = [_leaves(trained.module.network, batch) for batch in real.inputs]
    _make_folder(path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export.") as room:
        made = Path(room) / f"made{chosen.suffix}"
        chosen.write(trained, real.inputs[0], made)
        got, milliseconds = _run_elsewhere(form, made, real.inputs, Path(room))
        difference = _difference(expected, got)
        if not difference <= TOLERANCE and not difference <= (allowed := _rounding(trained, real, expected)):
            raise RunError(
                f"format={form}: its outputs differ by {difference:.1e} of the network's (allowed {allowed:.0e}); "
                "nothing was written"
            )
        _put(made, path)
    _tell(trained, path, real, (expected, got), difference, milliseconds, chosen)
    return path


def _make_folder(path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"out={path}: its folder cannot be made ({error.strerror})") from None


def _put(made: Path, path: Path) -> None:
    """Give a file its place, unless another has come there meanwhile."""
    try:
        os.link(made, path)
    except FileExistsError:
        raise UserError(f"out={path}: is there already; name another file, or remove it") from None
    except OSError:  # a file system without links
        made.replace(path)


def _demand_packages(form: str, chosen: Format) -> None:
    missing = [name for name in chosen.packages if find_spec(name) is None]
    if missing:
        raise UserError(
            f"format={form}: needs {', '.join(chosen.packages)}, of which {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not installed; pip install {' '.join(missing)}, or use "
            "format=torch_export"
        )


# real data


def _test_images(trained: Trained, run_id: str, count: int, places: Paths) -> Real:
    """The first test samples of the run's own data."""
    if Path(run_id).is_file():
        raise UserError(f"run={run_id}: a checkpoint's data is not known; name its run, or photos=<folder>")
    entry = record.read(folders.find(Path(places.runs_dir), run_id))
    config = as_recorded(entry, places, trainer=one_device(entry, "cpu"), model={"checkpoint": None})
    data = make_data(config)
    demand_same(entry, data)
    inputs: list[Tensor] = []
    targets: list[Any] = []
    taken = 0
    for batch in data.test_dataloader():
        own = data.on_after_batch_transfer(batch, 0)
        left = count - taken
        inputs.append(own.inputs[:left].to(trained.transform.dtype if trained.transform else own.inputs.dtype))
        targets.append(own.targets[:left])
        taken += len(inputs[-1])
        if taken >= count:
            break
    whole = data.sizes["test"]
    words = f"the first {taken:,} of {whole:,}" if taken < whole else f"all {taken:,}"
    return Real(inputs, targets, f"{words} test {'images' if trained.transform else 'samples'}")


def _photos(trained: Trained, folder: str) -> Real:
    """Photos as the network takes them, one by one."""
    transform = trained.transform
    if transform is None:
        raise UserError(f"photos={folder}: a network of {trained.task} takes no images")
    found = find([folder])
    try:
        inputs = [transform.normalise(read_photo(photo, transform).pixels)[None] for photo in found]
    except CorruptImage as error:
        raise UserError(f"photos={folder}: one of them cannot be read ({error})") from None
    return Real(inputs, [], f"{len(inputs)} photos of {folder}")


# writing


def about(trained: Trained) -> dict[str, Any]:
    """Plain data that goes into the file."""
    return {
        "run": trained.name,
        "task": trained.task,
        "config": trained.groups,
        "info": trained.info,
        "transform": trained.transform.describe() if trained.transform else None,
    }


def _safetensors(trained: Trained, example: Tensor, path: Path) -> None:
    safetensors.write(path, trained.module.network.state_dict(), about(trained))


def _torch_export(trained: Trained, example: Tensor, path: Path) -> None:
    program = traced(trained.module.network, example)
    torch.export.save(program, path, extra_files={"paperzoo.json": json.dumps(about(trained))})


def traced(network: nn.Module, example: Tensor) -> torch.export.ExportedProgram:
    """A network as a program that takes any number of images up to ``MOST_BATCH``.

    Args:
        network: in evaluation mode.
        example: a batch; what is traced is two of its images.
    """
    two = example[:2] if len(example) > 1 else example.repeat(2, *[1] * (example.dim() - 1))
    batch = torch.export.Dim("batch", min=1, max=MOST_BATCH)
    return torch.export.export(network, (two.contiguous(),), dynamic_shapes=({0: batch},))


def write_onnx(program: torch.export.ExportedProgram, path: Path) -> None:
    """Write what ``traced`` gives for ONNX Runtime: ``images``, any number up to ``MOST_BATCH``."""
    torch.onnx.export(program, (), path, input_names=["images"], external_data=False, verbose=False)


def _onnx(trained: Trained, example: Tensor, path: Path) -> None:
    import onnx

    write_onnx(traced(trained.module.network, example), path)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {"paperzoo": json.dumps(about(trained))})
    onnx.save(model, path)


def _named(write: Callable[[Trained, Tensor, Path], None], form: str) -> Callable[[Trained, Tensor, Path], None]:
    """With one line for what cannot be exported, whatever the exporter raises."""

    def writing(trained: Trained, example: Tensor, path: Path) -> None:
        try:
            write(trained, example, path)
        except Exception as error:
            network = trained.groups["model"]["network"]
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"format={form}: {network} cannot be exported ({reason})") from error

    return writing


FORMATS = {
    "onnx": Format(".onnx", _named(_onnx, "onnx"), ("onnx", "onnxscript", "onnxruntime"), alone=True),
    "torch_export": Format(".pt2", _named(_torch_export, "torch_export"), (), alone=True),
    "safetensors": Format(safetensors.SUFFIX, _safetensors, ("safetensors",), alone=False),
}


# checking


@torch.no_grad()
def _leaves(network: nn.Module, inputs: Tensor) -> list[np.ndarray]:
    """The outputs of a batch, nested ones in a row."""
    return [leaf.numpy() for leaf in tree_leaves(network(inputs)) if isinstance(leaf, Tensor)]


def _run_elsewhere(form: str, file: Path, inputs: list[Tensor], room: Path) -> tuple[list[list[np.ndarray]], float]:
    """Outputs of each batch by a fresh process, and its milliseconds an image."""
    given, written = room / "inputs.npz", room / "outputs.npz"
    np.savez(given, *(batch.numpy() for batch in inputs))
    alone = "-P"  # no module beside the script is taken for another of its name
    command = [sys.executable, alone, elsewhere.__file__, form, str(file), str(given), str(written)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise RunError(f"format={form}: a fresh process cannot run the file ({reason}); nothing was written")
    outputs: list[list[np.ndarray]] = [[] for _ in inputs]
    with np.load(written) as arrays:
        for name in arrays.files:
            if name != elsewhere.LATENCY:
                outputs[int(name.split("_")[0])].append(arrays[name])
        return outputs, float(arrays[elsewhere.LATENCY])


def _difference(expected: list[list[np.ndarray]], got: list[list[np.ndarray]]) -> float:
    """The largest difference, relative to the largest output where that is above 1."""
    worst = 0.0
    for ours, theirs in zip(expected, got, strict=True):
        if [a.shape for a in ours] != [a.shape for a in theirs]:
            return float("inf")
        for a, b in zip(ours, theirs, strict=True):
            if a.size:
                scale = max(1.0, float(np.abs(a).max()))
                worst = max(worst, float(np.abs(a.astype(np.float64) - b.astype(np.float64)).max()) / scale)
    return worst


def _rounding(trained: Trained, real: Real, expected: list[list[np.ndarray]]) -> float:
    """The limit for a network whose float32 rounds by more than ``TOLERANCE``: twice its distance from float64."""
    exact = copy.deepcopy(trained.module.network).double()
    return max(TOLERANCE, 2 * _difference(expected, [_leaves(exact, batch.double()) for batch in real.inputs]))


def _accuracy(outputs: list[list[np.ndarray]], targets: list[Any]) -> float:
    """The share of labels, or of labelled pixels, that the largest logit names."""
    hits = labelled = 0
    for (logits, *_), truth in zip(outputs, targets, strict=True):
        known = truth.numpy() != IGNORED
        hits += int((logits.argmax(1) == truth.numpy())[known].sum())
        labelled += int(known.sum())
    return hits / max(labelled, 1)


def _tell(
    trained: Trained,
    path: Path,
    real: Real,
    outputs: tuple[Any, Any],
    difference: float,
    latency: float,
    chosen: Format,
) -> None:
    display = Display()
    size = path.stat().st_size
    parameters = sum(p.numel() for p in trained.module.network.parameters())
    facts = {"file": str(path), "size": f"{size / 2**20:,.2f} MiB ({parameters:,} parameters)"}
    facts["outputs"] = f"equal the network's within {difference:.1e} on {real.words}, in a fresh process"
    if real.targets and trained.task in ("classification", "segmentation"):
        ours, theirs = (_accuracy(out, real.targets) for out in outputs)
        facts["accuracy"] = f"{100 * theirs:.2f} % (the network's: {100 * ours:.2f} %)"
    own = elsewhere.milliseconds(lambda: _leaves(trained.module.network, real.inputs[0][:1]))
    what = "one image" if trained.transform else "one sample"
    facts["latency"] = f"{latency:.2f} ms for {what} here (the network in PyTorch: {own:.2f} ms)"
    facts["needs"] = "nothing of Paperzoo" if chosen.alone else "paperzoo.load, which makes the network of it"
    display.facts(facts)
