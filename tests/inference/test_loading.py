"""``paperzoo.load``: what is loaded is what was evaluated, from a run, a checkpoint, and records of before."""

import json
import shutil

import numpy as np
import pytest
import torch
from contract import batch_of, configured
from PIL import Image
from pruning import TrainPruneTune

import paperzoo
from paperzoo.config import compose
from paperzoo.errors import UserError
from paperzoo.runs import checkpoints, folders
from paperzoo.training import load_data, train


def place(runs, entry):
    return folders.find(runs, entry.id)


def accuracy(network, digits):
    folder, labels = digits
    images = torch.stack([network.transform(path) for path in sorted(folder.iterdir())])
    return float((network(images).argmax(1).numpy() == labels).mean())


def test_a_run_is_loaded_as_it_was_evaluated(runs, classifier, digits):
    for weights in ("last", "best"):
        network = paperzoo.load(place(runs, classifier), weights)
        assert accuracy(network, digits) == pytest.approx(classifier.results[weights].metrics["test/top1"], abs=1e-7)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert network.class_names == [str(k) for k in range(10)]
    assert (network.task, network.info["image_size"]) == ("classification", 28)


def test_the_transform_equals_a_naive_one(runs, classifier):
    network = paperzoo.load(classifier.id, runs_dir=runs)
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    (mean,), (std,) = classifier.info["mean"], classifier.info["std"]
    expected = (pixels.astype(np.float64) / 255 - mean) / std
    for image in (pixels, Image.fromarray(pixels)):
        got = network.transform(image)
        assert got.shape == (1, 28, 28)
        np.testing.assert_allclose(got[0].double().numpy(), expected, rtol=0, atol=2e-6)
    wide = Image.fromarray(pixels.repeat(4, 0).repeat(8, 1))  # 224 x 112: the middle is taken
    middle = Image.fromarray(pixels[:, 7:21]).resize((28, 28), Image.Resampling.BILINEAR)
    assert network.transform.pixels(wide).shape == (1, 28, 28)
    assert np.abs(network.transform.pixels(wide)[0].numpy().astype(float) - np.asarray(middle)).mean() < 40


def test_every_way_to_name_it_gives_the_same_network(runs, classifier, tmp_path):
    folder = place(runs, classifier)
    alone = tmp_path / "weights.ckpt"  # without its record
    shutil.copy(folder / "checkpoints" / "last.ckpt", alone)
    image = torch.randn(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    before = torch.get_rng_state()
    first = paperzoo.load(folder)
    assert torch.equal(torch.get_rng_state(), before)  # what is drawn and replaced disturbs nobody
    for source in (str(folder), classifier.id, folder / "checkpoints" / "last.ckpt", alone):
        other = paperzoo.load(source, runs_dir=runs)
        assert torch.equal(other(image), first(image))
        assert (other.class_names, other.info) == (first.class_names, first.info)


def test_the_data_is_not_looked_for(runs, detector, monkeypatch):
    monkeypatch.setattr("paperzoo.inference.loading.make_data", None)
    assert paperzoo.load(detector.id, runs_dir=runs).info == detector.info


def test_a_checkpoint_says_what_it_is_of(runs, classifier):
    content = checkpoints.load(place(runs, classifier) / "checkpoints" / "last.ckpt")
    config = content["config"]
    assert (config["data"]["task"], config["data"]["augment"]["crop_padding"]) == ("classification", 2)
    assert not {"paths", "logger", "resume"} & set(config)
    assert content["hyper_parameters"]["info"] == classifier.info


def test_a_checkpoint_of_before_is_read_with_what_the_record_has(runs, classifier, tmp_path, digits):
    """Before, neither checkpoints nor records held what the data said of itself."""
    folder = tmp_path / "runs" / "resnet" / classifier.identity / "1"
    shutil.copytree(place(runs, classifier), folder)
    path = folder / "checkpoints" / "last.ckpt"
    content = checkpoints.load(path)
    del content["config"], content["hyper_parameters"]
    checkpoints.save(content, path)
    expected = classifier.results["last"].metrics["test/top1"]
    assert accuracy(paperzoo.load(folder), digits) == pytest.approx(expected, abs=1e-7)
    plain = json.loads((folder / "run.json").read_text())
    plain["info"] = {}
    (folder / "run.json").write_text(json.dumps(plain))
    assert accuracy(paperzoo.load(folder), digits) == pytest.approx(expected, abs=1e-7)
    alone = tmp_path / "alone.ckpt"
    torch.save(content, alone)
    with pytest.raises(UserError, match=r"alone.ckpt: is from before checkpoints said what they are of; name its run"):
        paperzoo.load(alone)


def test_a_run_of_several_stages_is_loaded_as_its_stages_left_it(tmp_path):
    words = ["model=resnet", "model.depth=11", "model.width=4", "trainer=cpu", "trainer.max_epochs=1", "logger=none",
             "data.limit_train=64", "data.batch_size=16", "data.validation=50", "data.test=50",
             f"paths.runs_dir={tmp_path}"]  # fmt: skip
    staged = f"procedure._target_={TrainPruneTune.__module__}.{TrainPruneTune.__name__}"
    entry = train(compose("train", [*words, staged]))
    network = paperzoo.load(entry.id, runs_dir=tmp_path)
    images, labels = load_data(compose("train", words)).tensors("test")
    got = float((network(network.transform.normalise(images)).argmax(1) == labels).double().mean())
    assert got == pytest.approx(entry.results["last"].metrics["test/top1"], abs=1e-7)
    assert any(name.endswith("weight_mask") for name in network.state_dict())


@pytest.mark.parametrize("paper", ["lstm", "triplet", "htc"])
def test_networks_of_other_tasks_give_what_the_trained_ones_gave(paper, tmp_path):
    config = configured(paper, "trainer.threads=1", runs=tmp_path)
    entry = train(config)
    network = paperzoo.load(entry.id, runs_dir=tmp_path)
    content = checkpoints.load(place(tmp_path, entry) / "checkpoints" / "last.ckpt")
    own = {name: content["state_dict"][f"network.{name}"] for name in network.state_dict()}
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())
    inputs = batch_of(load_data(config)).inputs
    if paper == "lstm":
        assert network.transform is None
        assert network(inputs)[0].shape[:2] == inputs.shape
    elif paper == "triplet":
        assert network(inputs).shape == (len(inputs), 6)
    else:
        image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8))
        one = network.transform(image)
        assert one.shape == (3, 50, 70)
        batch = network.transform.batch([one])
        assert batch.shape == (1, 3, 64, 96)
        assert torch.equal(batch[0, :, :50, :70], one)
        assert float(batch[0, :, 50:].abs().sum() + batch[0, :, :, 70:].abs().sum()) == 0
        mean, std = (torch.tensor(entry.info[name], dtype=torch.float64) for name in ("mean", "std"))
        expected = (torch.from_numpy(np.array(image)).double() / 255 - mean) / std
        torch.testing.assert_close(one.permute(1, 2, 0).double(), expected, rtol=0, atol=1e-5)


def test_a_run_of_float64_stays_in_float64(tmp_path):
    entry = train(configured("resnet", "trainer.precision=64-true", "trainer.max_steps=2", runs=tmp_path))
    network = paperzoo.load(entry.id, runs_dir=tmp_path)
    image = np.zeros((28, 28), np.uint8)
    assert network.transform(image).dtype == torch.float64
    assert network(network.transform(image)[None]).dtype == torch.float64


def test_mistakes_are_one_line(runs, classifier, tmp_path):
    folder = place(runs, classifier)
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"not a checkpoint")
    foreign = tmp_path / "foreign.pth"
    torch.save({"state_dict": {"conv1.weight": torch.zeros(1)}}, foreign)
    unfit = tmp_path / "unfit.ckpt"
    content = checkpoints.load(folder / "checkpoints" / "last.ckpt")
    content["config"]["model"]["width"] = 8
    torch.save(content, unfit)
    for source, line in (
        (broken, "broken.ckpt: is no checkpoint of PyTorch's"),
        (foreign, "is no checkpoint of a run"),
        (unfit, "the weights do not fit this network"),
        ("0000000000", "there is no such run"),
        ("nowhere/at/all", "neither a run folder nor a run id"),
    ):
        with pytest.raises(UserError, match=line) as error:
            paperzoo.load(source, runs_dir=runs)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="weights=first: must be last, best, or step_<n>"):
        paperzoo.load(folder, "first")
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        paperzoo.lode  # noqa: B018
