"""Published weights without a run: prepared as their network's timm configuration says, measured as runs are."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from drawn import folder, picture
from PIL import Image
from timm.data import resolve_model_data_config
from torchvision import transforms

from paperzoo.config import compose
from paperzoo.errors import RunError, UserError
from paperzoo.inference import published
from paperzoo.papers import scnet
from paperzoo.predictions import files

SRC = Path(__file__).resolve().parents[2] / "src"
CLASSES = ("ant", "bee", "cat")


@pytest.fixture
def weights(tmp_path):
    """A file of random weights in the official layout."""
    torch.manual_seed(0)
    network = timm.create_model("shufflenet_v2_0_5x", num_classes=len(CLASSES)).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.no_grad():
        network.get_classifier().weight.normal_(std=0.01)  # of pixels up to 255
    path = tmp_path / "weights.pth.tar"
    torch.save({"state_dict": {f"module.{k}": v for k, v in network.state_dict().items()}, "epoch": 1}, path)
    return path, network


def words(path, root):
    return ["model=shufflenet_v2", "model.network=shufflenet_v2_0_5x", f"model.checkpoint={path}", "data=image_folder",
            f"data.root={root}", "data.image_size=224", "data.batch_size=2", "data.eval_batch_size=7", "data.test=15",
            "data.validation=9", "trainer=cpu"]  # fmt: skip


def test_evaluation_is_a_naive_loops(weights, tmp_path, capsys, monkeypatch):
    path, network = weights
    root = folder(tmp_path / "x", CLASSES, each=12, size=(60, 50))
    config = compose("train", words(path, root))
    metrics = published.evaluate(config, str(tmp_path / "out"))
    from paperzoo.training import load_data

    part = load_data(config).parts["test"]
    # The authors give their network pixels from 0 to 255 in BGR; timm's configuration says what is cut out.
    bicubic = transforms.InterpolationMode.BICUBIC
    transform = transforms.Compose(
        [transforms.Resize(256, bicubic), transforms.CenterCrop(224), transforms.PILToTensor()]
    )
    network = network.double()
    right, losses, shares = 0, [], []
    for row, label in zip(part.rows, part.labels, strict=True):
        image = Image.open(part.split.read(int(row)))
        with torch.no_grad():
            logits = network(transform(image)[[2, 1, 0]][None].double())[0]
        right += int(logits.argmax()) == label
        losses.append(float(logits.exp().sum().log() - logits[label]))
        shares.append(logits.softmax(0).numpy())
    assert len(losses) == 15
    assert metrics["test/top1"] == pytest.approx(right / 15, abs=1e-7)
    assert metrics["test/loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    said = capsys.readouterr().out
    assert "crop_pct=0.875" in said
    assert "channels=bgr" in said
    assert f"{100 * right / 15:.2f} %" in said
    assert not list(tmp_path.glob("runs/*"))

    file = tmp_path / "out" / "shufflenet_v2_0_5x_image_folder_test.parquet"
    table = pd.read_parquet(file)
    assert table["index"].tolist() == list(range(15))
    assert (table.label == part.labels).all()
    np.testing.assert_allclose(np.stack(table.probabilities), shares, rtol=0, atol=1e-5)
    np.testing.assert_allclose(table.loss, losses, rtol=1e-4)
    assert file.with_suffix(".png").stat().st_size > 5000
    assert files.evaluate(file) == metrics
    said = capsys.readouterr().out
    assert said.startswith(f"shufflenet_v2_0_5x with {path}, 15 predictions in {file}\n")
    assert "every metric equals that of the network" in said
    for more, line in (
        (
            ["predictions=true", f"out={tmp_path / 'out'}"],
            f"out={tmp_path / 'out'}: holds {file.name} already; name an",
        ),
        (["predictions=perhaps"], "predictions=perhaps: must be true or false"),
    ):
        monkeypatch.setattr(sys, "argv", ["evaluate.py", *words(path, root), *more])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SRC / "evaluate.py"), run_name="__main__")
        assert end.value.code == 2
        assert capsys.readouterr().err.startswith(f"error: {line}")


def test_timms_transform_is_torchvisions_pixel_for_pixel():
    """The customary evaluation, which the weights were published with: 256, then the middle's 224."""
    ours = published.timm_transform(resolve_model_data_config(scnet.scnet50()))
    theirs = transforms.Compose([
        transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
        transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ])  # fmt: skip
    random = np.random.default_rng(0)
    for number in range(50):
        width, height = random.integers(40, 500, 2)
        image = picture(number, size=(int(width), int(height)))
        assert torch.equal(ours(image), theirs(image)), (width, height)


@pytest.mark.parametrize(
    ("network", "bgr"), [("shufflenet_v2_0_5x", True), ("shufflenet_v1_g3_0_5x", True), ("shufflenet_v2_x0_5", False)]
)
def test_only_the_authors_weights_are_given_pixels_in_bgr(network, bgr):
    config = compose("train", [f"model={network[:13]}", f"model.network={network}"])
    preparation = published.preparation_of(timm.create_model(network), config)
    got = published.timm_transform(preparation)(Image.new("RGB", (300, 300), (10, 20, 30)))
    assert got.shape == (3, 224, 224)
    moments = ((10, 0.485, 0.229), (20, 0.456, 0.224), (30, 0.406, 0.225))
    usual = [(value / 255 - mean) / std for value, mean, std in moments]
    expected = [30.0, 20.0, 10.0] if bgr else usual
    torch.testing.assert_close(got[:, 100, 100].tolist(), expected, rtol=1e-5, atol=1e-5)


def test_mistakes_are_one_line(weights, tmp_path):
    path, _ = weights
    root = folder(tmp_path / "x", CLASSES[:2], each=20)
    with pytest.raises(UserError, match="knows 3 classes, data=image_folder has 2"):
        published.evaluate(compose("train", words(path, root)))
    with pytest.raises(UserError, match=r"model.checkpoint must be given"):
        published.evaluate(compose("train", [w for w in words(path, root) if "checkpoint" not in w]))
    with pytest.raises(UserError, match=r"has images of 1 channel.*, shufflenet_v2_0_5x is published for 3"):
        published.evaluate(compose("train", [*words(path, folder(tmp_path / "g", CLASSES)), "data.in_chans=1"]))
    with pytest.raises(UserError, match="a run's own weights go with run=12ab"):
        published.evaluate(compose("train", [*words(path, root), "model.checkpoint=run:12ab"]))
    with pytest.raises(UserError, match="the weights do not fit this network"):
        published.evaluate(
            compose("train", [*words(path, folder(tmp_path / "z", CLASSES)), "model.network=shufflenet_v2_1_0x"])
        )


def test_an_image_that_cannot_be_read_is_named(weights, tmp_path, monkeypatch):
    path, _ = weights
    root = folder(tmp_path / "y", CLASSES, each=12)
    monkeypatch.setattr(published, "open_image", broken)
    with pytest.raises(RunError, match=r"\.png: cut short; remove it"):
        published.evaluate(compose("train", words(path, root)))


def broken(raw):
    from paperzoo.data.images.decoding import CorruptImage

    raise CorruptImage("cut short")
