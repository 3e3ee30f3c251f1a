"""``export.py``: files give the network's outputs, by a process without Paperzoo; a wrong file is not left."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import forked
import numpy as np
import pytest
import timm
import torch
from contract import configured, papers
from PIL import Image

import paperzoo
from paperzoo import cards
from paperzoo.errors import RunError, UserError
from paperzoo.inference import elsewhere, exporting, safetensors
from paperzoo.runs import checkpoints, folders
from paperzoo.training import load_data, make_module

SRC = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture
def checked_in_a_fork(monkeypatch):
    """A file is run in a fork of this process: what a new one would give, without its imports."""
    monkeypatch.setattr(exporting, "subprocess", SimpleNamespace(run=forked.in_place_of_a_process))


def test_a_program_from_the_command_line_that_needs_no_paperzoo(runs, classifier, tmp_path):
    out = tmp_path / "made" / "net.pt2"
    environment = os.environ | {"RUNS_DIR": str(runs), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    words = (f"run={classifier.id}", "format=torch_export", f"out={out}")
    done = forked.run(SRC / "export.py", *words, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    top1 = classifier.results["last"].metrics["test/top1"]
    assert f"{100 * top1:.2f} % (the network's: {100 * top1:.2f} %)" in done.stdout
    assert "on all 60 test images, in a fresh process" in done.stdout
    assert f"{out.stat().st_size / 2**20:,.2f} MiB" in done.stdout
    assert "ms for one image" in done.stdout
    extra = {"paperzoo.json": ""}
    program = torch.export.load(out, extra_files=extra).module()
    network = paperzoo.load(classifier.id, runs_dir=runs)
    for count in (1, 2, 9):
        images = torch.randn(count, 1, 28, 28, generator=torch.Generator().manual_seed(count))
        torch.testing.assert_close(program(images), network(images), rtol=0, atol=1e-5)
    about = json.loads(extra["paperzoo.json"])
    assert about["info"]["class_names"] == [str(k) for k in range(10)]
    assert about["transform"]["mean"] == classifier.info["mean"]
    assert (about["transform"]["size"], about["task"]) == (28, "classification")
    assert [path.name for path in out.parent.iterdir()] == ["net.pt2"]
    script = (
        "import sys; sys.modules['paperzoo'] = None\n"
        "import torch\n"
        f"print(torch.export.load({str(out)!r}).module()(torch.zeros(3, 1, 28, 28)).tolist())"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    expected = network(torch.zeros(3, 1, 28, 28))
    np.testing.assert_allclose(np.array(json.loads(done.stdout)), expected.numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "which",
    ["classifier", pytest.param("parser", marks=pytest.mark.full), pytest.param("detector", marks=pytest.mark.full)],
)
def test_safetensors_hold_the_weights_bit_for_bit(which, runs, request, tmp_path):
    entry = request.getfixturevalue(which)
    if which != "classifier":
        request.getfixturevalue("checked_in_a_fork")  # once in a process of its own is enough
    out = exporting.run(entry.id, str(tmp_path / "net.safetensors"), format="safetensors", runs_dir=str(runs), images=4)
    about, state = safetensors.read(out)
    content = checkpoints.load(folders.find(runs, entry.id) / "checkpoints" / "last.ckpt")
    own = {k.removeprefix("network."): v for k, v in content["state_dict"].items() if k.startswith("network.")}
    assert own.keys() == state.keys()
    assert all(torch.equal(own[name], value) for name, value in state.items())
    assert about["run"] == entry.id
    network, expected = paperzoo.load(out), paperzoo.load(entry.id, runs_dir=runs)
    assert (network.class_names, network.task, network.info) == (expected.class_names, expected.task, expected.info)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    assert torch.equal(network.transform(image), expected.transform(image))


@pytest.mark.full
@pytest.mark.usefixtures("checked_in_a_fork")
def test_maps_are_exported(runs, parser, tmp_path, capsys):
    out = exporting.run(parser.id, str(tmp_path / "net.pt2"), format="torch_export", runs_dir=str(runs), images=7)
    images = torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    got, expected = torch.export.load(out).module()(images), paperzoo.load(parser.id, runs_dir=runs)(images)
    assert got.shape == (3, 11, 28, 28)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-5)
    said = capsys.readouterr().out
    assert "on the first 7 of 50 test images" in said
    assert "accuracy" in said


@pytest.mark.full
@pytest.mark.usefixtures("checked_in_a_fork")
def test_photos_in_place_of_the_runs_data(runs, classifier, digits, tmp_path, capsys):
    folder, _ = digits
    checkpoint = folders.find(runs, classifier.id) / "checkpoints" / "best.ckpt"
    out = str(tmp_path / "a.pt2")
    exporting.run(str(checkpoint), out, format="torch_export", photos=str(folder / "000.png"), runs_dir=str(runs))
    assert "on 1 photos of" in capsys.readouterr().out
    with pytest.raises(UserError, match="a checkpoint's data is not known; name its run, or photos=<folder>"):
        exporting.run(str(checkpoint), str(tmp_path / "b.pt2"), format="torch_export", runs_dir=str(runs))


@pytest.mark.usefixtures("checked_in_a_fork")
def test_a_file_that_gives_other_outputs_is_not_left(runs, classifier, tmp_path, monkeypatch):
    def wrong(trained, example, path):
        network = trained.module.network
        with torch.no_grad():
            network.fc.bias[3] += 0.001
        torch.export.save(exporting.traced(network, example), path)
        with torch.no_grad():
            network.fc.bias[3] -= 0.001

    monkeypatch.setitem(exporting.FORMATS, "torch_export", exporting.FORMATS["torch_export"]._replace(write=wrong))
    with pytest.raises(RunError, match=r"its outputs differ by .* nothing was written"):
        exporting.run(classifier.id, str(tmp_path / "net.pt2"), format="torch_export", runs_dir=str(runs), images=3)
    assert list(tmp_path.iterdir()) == []


def test_a_file_may_differ_as_far_as_float32_rounds():
    class Cancelling(torch.nn.Module):
        def forward(self, x):
            return (x + 1e4) - 1e4

    x = torch.tensor([[0.3, 0.7]])
    rounded = float((((x + 1e4) - 1e4).double() - x.double()).abs().max())
    assert rounded > 1e-4
    for network, allowed in ((Cancelling(), 2 * rounded), (torch.nn.Identity(), exporting.TOLERANCE)):
        trained = SimpleNamespace(module=SimpleNamespace(network=network))
        real = exporting.Real([x], [], "")
        assert exporting._rounding(trained, real, [[network(x).numpy()]]) == pytest.approx(allowed, rel=1e-3)


@pytest.mark.full
@pytest.mark.usefixtures("checked_in_a_fork")
def test_a_file_that_does_not_run_is_not_left(runs, classifier, tmp_path, monkeypatch):
    broken = exporting.FORMATS["torch_export"]._replace(write=lambda trained, example, path: path.write_bytes(b"x"))
    monkeypatch.setitem(exporting.FORMATS, "torch_export", broken)
    with pytest.raises(RunError, match="a fresh process cannot run the file") as error:
        exporting.run(classifier.id, str(tmp_path / "net.pt2"), format="torch_export", runs_dir=str(runs), images=3)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_mistakes_are_one_line(runs, classifier, detector, tmp_path):
    there = tmp_path / "there.pt2"
    there.write_bytes(b"mine")
    places = {"runs_dir": str(runs)}
    for entry, out, form, line in (
        (classifier, there / "x.pt2", "torch_export", "its folder cannot be made"),
        (classifier, there, "torch_export", "is there already; name another file, or remove it"),
        (classifier, tmp_path / "a", "coreml", "format=coreml: must be one of onnx, torch_export, safetensors"),
        (detector, tmp_path / "b", "torch_export", "a network of detection is no function of one batch"),
    ):
        with pytest.raises(UserError, match=line) as error:
            exporting.run(entry.id, str(out), format=form, **places)
        assert "\n" not in str(error.value)
    assert there.read_bytes() == b"mine"
    with pytest.raises(UserError, match="the data"):
        exporting.run(changed(runs, classifier, tmp_path), str(tmp_path / "c"), format="safetensors", **places)


def changed(runs, entry, tmp_path) -> str:
    """A copy of a run that says it saw other data."""
    import shutil

    folder = tmp_path / "copy" / "1"
    shutil.copytree(folders.find(runs, entry.id), folder)
    plain = json.loads((folder / "run.json").read_text())
    plain["data"]["fingerprint"] = "0" * 64
    (folder / "run.json").write_text(json.dumps(plain))
    return str(folder)


@pytest.mark.parametrize(("words", "line"), [
    ([], "which run, and how?"),
    (["run=12"], "which run, and how?"),
    (["run=12", "format=onnx", "images=none"], "images=none: must be a whole number of at least 1"),
    (["run=12", "format=onnx"], "run=12: there is no such run"),
    (["run=12", "formt=onnx"], "formt=onnx: there is no such option"),
])  # fmt: skip
def test_mistakes_of_the_command_are_one_line(words, line, runs, classifier, monkeypatch, capsys):
    import runpy

    monkeypatch.setenv("RUNS_DIR", str(runs))
    monkeypatch.setattr(sys, "argv", ["export.py", *words])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SRC / "export.py"), run_name="__main__")
    error = capsys.readouterr().err
    assert end.value.code == 2
    assert error.startswith("error: ")
    assert line in error
    assert error.count("\n") == 1


def test_missing_packages_are_named(runs, classifier, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"format=onnx: needs onnx, onnxscript, onnxruntime, of which .* not installed"):
        exporting.run(classifier.id, str(tmp_path / "a.onnx"), format="onnx", runs_dir=str(runs))


LARGE = {  # with stems and blocks that small networks do not have, few of them: the others have no other operators
    "res2net50_26w_4s": {"layers": (2, 1, 1, 1)},
    "nasnet_a_mobile": {"cells": 1},
}
CLASSIFYING = [  # but for those whose network is ResNet's: a loss or a recipe is in no file; NASNet's is in LARGE
    slug
    for slug in papers()
    if cards.load(slug).tasks[0] == "classification"
    and not {"loss", "recipe"} & set(cards.load(slug).kinds)
    and slug != "nasnet"
]


def small(paper):
    """A paper's network in small, its kernels as ``paperzoo.load`` lays them out; of layers a stage."""
    config = configured(paper)
    network = make_module(config, load_data(config)).network.eval().to(memory_format=torch.contiguous_format)
    if "norm" in cards.load(paper).kinds:
        network = torch.nn.Sequential(network.conv1, network.bn1, network.act1, network.layer1)
    return network


@pytest.mark.full
@pytest.mark.parametrize("paper", CLASSIFYING)
def test_every_small_network_can_be_exported(paper, tmp_path):
    check(small(paper), torch.randn(3, 1, 28, 28, generator=torch.Generator().manual_seed(0)), tmp_path)


@pytest.mark.full
@pytest.mark.parametrize("name", LARGE)
def test_networks_of_papers_can_be_exported(name, tmp_path):
    torch.manual_seed(0)
    network = timm.create_model(name, num_classes=10, **LARGE[name]).eval()
    check(network, torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)), tmp_path)


def test_a_run_as_onnx(runs, classifier, tmp_path):
    out = exporting.run(classifier.id, str(tmp_path / "a.onnx"), format="onnx", runs_dir=str(runs))
    network = paperzoo.load(classifier.id, runs_dir=runs)
    same_outputs(network, with_onnx(out), torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(0)))


def check(network, images, folder):
    """Both files of a network, which is traced once, give its outputs."""
    away_from_the_start(network)
    traced = exporting.traced(network, images)
    torch.export.save(traced, folder / "net.pt2")
    same_outputs(network, torch.export.load(folder / "net.pt2").module(), images)
    exporting.write_onnx(traced, folder / "net.onnx")
    same_outputs(network, with_onnx(folder / "net.onnx"), images)


def away_from_the_start(network):
    for module in network.modules():
        if isinstance(getattr(module, "running_mean", None), torch.Tensor):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)


def with_onnx(file):
    """ONNX Runtime's function of a file."""
    call = elsewhere.function_of("onnx", str(file))
    return lambda images: torch.from_numpy(call(images.numpy())[0])


@torch.no_grad()
def same_outputs(network, program, images):
    """For one image, and for several."""
    for some in (images, images[:1], images.repeat(3, 1, 1, 1)):
        expected = network(some)
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(program(some), expected, rtol=0, atol=1e-5 * scale)
