"""Published state dicts load key by key, or not at all."""

import json
from pathlib import Path

import pytest
import shapes
import timm
import torch
import torchvision
from composed import compose

from paperzoo.errors import UserError
from paperzoo.networks.official import classifier_name
from paperzoo.papers import nasnet, res2net, resnet, resnext, scnet, senet, shufflenet_v1, shufflenet_v2
from paperzoo.runs import checkpoints
from paperzoo.training import make_module

OFFICIAL = Path(__file__).parent / "official"
ROOMS = {
    "scnet50": scnet,
    "scnet50_v1d": scnet,
    "res2net50_26w_4s": res2net,
    "res2net50_v1b_26w_4s": res2net,
    "res2next50": res2net,
    "shufflenet_v1_g3_1.0x": shufflenet_v1,
    "shufflenet_v1_g8_0.5x": shufflenet_v1,
    "shufflenet_v2_1.0x": shufflenet_v2,
    "shufflenet_v2_0.5x": shufflenet_v2,
    "nasnet_a_mobile": nasnet,
    "se_resnet50_moskomule": senet,
}
OTHERS = [name for name in ROOMS if ROOMS[name] not in (scnet, res2net)]  # test_official_functions has these


def create(name: str) -> torch.nn.Module:
    """The network of a published state dict: a name in timm's registry has no dots."""
    return timm.create_model(name.replace(".", "_"))


def published(name: str) -> dict[str, torch.Tensor]:
    """Random weights under the published keys, in their shapes."""
    keys = json.loads((OFFICIAL / f"{name}.json").read_text())["keys"]
    return {k: torch.tensor(3) if k.endswith("num_batches_tracked") else torch.rand(s) for k, s in keys.items()}


@pytest.mark.parametrize("name", ROOMS)
def test_published_weights_arrive(name):
    network, weights = create(name), published(name)
    ROOMS[name].load_official(network, {"state_dict": {f"module.{key}": value for key, value in weights.items()}})
    state = network.state_dict()
    assert list(state) == list(weights)
    assert all(torch.equal(state[key], value) for key, value in weights.items())


@pytest.mark.parametrize("name", ROOMS)
def test_what_does_not_fit_is_named_in_every_room(name):
    """A key is missing, one is unexpected, one has another shape: each is named, and nothing is loaded."""
    network, weights = create(name), published(name)
    first, *_, last = weights
    before = network.state_dict()[last].clone()
    del weights[first]
    with pytest.raises(UserError) as caught:
        ROOMS[name].load_official(network, weights | {"extra.weight": torch.zeros(1), last: torch.zeros(3, 7)})
    assert f"1 missing: {first}; 1 unexpected: extra.weight; 1 of another shape: {last} is 3x7" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert torch.equal(network.state_dict()[last], before)


@pytest.mark.parametrize("name", OTHERS)
def test_a_checkpoint_by_override(name, tmp_path):
    """model.checkpoint=<file>, of 1000 classes: all but the classifier is the file's, which is made for the data."""
    weights = published(name)
    torch.save({"state_dict": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "official.pth")
    paper, network = ROOMS[name].__name__.rsplit(".", 1)[1], name.replace(".", "_")
    words = [f"model={paper}", f"model.network={network}", f"model.checkpoint={tmp_path / 'official.pth'}"]
    config = compose("train", words)
    data = shapes.images(10, 3)
    module = make_module(config, data, checkpoints.read_plain(Path(config.model.checkpoint)))
    last = classifier_name(module.network)
    state = module.network.state_dict()
    assert len(state[f"{last}.weight"]) == 10
    assert set(state) == set(weights)
    assert all(torch.equal(state[key], weights[key]) for key in weights if not key.startswith(f"{last}."))


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return timm.create_model("scnet50")


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: {f"module.{k}": v for k, v in w.items()},
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model": {f"module.{k}": v for k, v in w.items()}},
        lambda w: {k: v for k, v in w.items() if not k.endswith("num_batches_tracked")},
        lambda w: {k: v.half() if v.is_floating_point() else v for k, v in w.items()},
    ],
    ids=["module.", "state_dict", "model and module.", "before PyTorch 0.4.1", "half precision"],
)
def test_wrappers_prefixes_and_old_files(network, wrap):
    weights = published("scnet50")
    scnet.load_official(network, wrap(weights))
    got = network.state_dict()["layer3.2.scconv.k4.0.weight"]
    torch.testing.assert_close(got, weights["layer3.2.scconv.k4.0.weight"], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("around", [torch.nn.DataParallel, torch.compile])
def test_a_wrapped_network_takes_them_too(network, around):
    weights = published("scnet50")
    scnet.load_official(around(network), weights)
    assert torch.equal(network.state_dict()["conv1.weight"], weights["conv1.weight"])


def test_a_network_without_memory_says_so():
    with torch.device("meta"):
        empty = timm.create_model("scnet50")
    with pytest.raises(UserError, match="meta device, which holds no weights"):
        scnet.load_official(empty, published("scnet50"))


def without(key: str):
    return lambda w: {k: v for k, v in w.items() if k != key}


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without("fc.bias"), ["1 missing", "fc.bias"]),
        (without("layer1.0.k1.1.running_var"), ["1 missing", "layer1.0.k1.1.running_var"]),
        (lambda w: w | {"extra.weight": torch.zeros(1)}, ["1 unexpected", "extra.weight"]),
        (lambda w: w | {"fc.weight": torch.zeros(10, 2048)}, ["fc.weight", "10x2048", "1000x2048"]),
        (lambda w: without("bn1.bias")(w) | {"bn1.beta": torch.zeros(64)}, ["bn1.bias", "unexpected", "bn1.beta"]),
        (lambda w: w | {"module.fc.bias": torch.ones(1000)}, ["unexpected", "module.fc.bias"]),
        (lambda w: w | {"fc.bias": [1.0]}, ["fc.bias", "list"]),
        (lambda w: {}, ["missing", "conv1.weight", "..."]),
        (list, ["list", "mapping"]),
        (lambda w: {"model": w["fc.bias"]}, ["missing"]),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_is_loaded(network, damage, says):
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with pytest.raises(UserError) as caught:
        scnet.load_official(network, damage(published("scnet50")))
    assert all(word in str(caught.value) for word in says)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize(("room", "name"), [(resnet, "resnet50"), (resnext, "resnext50_32x4d")])
def test_torchvisions_weights_give_torchvisions_logits(room, name):
    torch.manual_seed(0)
    theirs = getattr(torchvision.models, name)(weights=None).eval()
    for buffer in (b for n, b in theirs.named_buffers() if n.endswith(("mean", "var"))):
        buffer.uniform_(0.5, 1.5)
    ours = timm.create_model(name).eval()
    room.load_official(ours, theirs.state_dict())
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)
