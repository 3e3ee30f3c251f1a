"""Cards: what they say is counted anew, agrees with conf/, and a mistake in one is one line."""

import copy
import importlib
import subprocess
import sys
from functools import lru_cache
from types import SimpleNamespace

import pytest
import timm
import torch
import yaml

from paperzoo import cards
from paperzoo.accounting import count
from paperzoo.config import compose
from paperzoo.errors import UserError
from paperzoo.tasks.making import make_module

SLUGS = cards.slugs()
CONF = cards.PAPERS.parents[2] / "conf" / "model"
# Papers of networks for phones: compared at equal multiply-adds, whatever the parameters.
EFFICIENT = {"mobilenet_v1", "mobilenet_v2", "squeezenet", "shufflenet_v1", "shufflenet_v2", "nasnet"}
# Strips have kernels and hardly any multiply-adds: compared at equal multiply-adds, too.
BY_MACS = EFFICIENT | {"strip_pooling"}
ON_SKELETON = [slug for slug in SLUGS if f"{slug}_small" in cards.load(slug).known()]  # with a block of their own
NETWORKS = [(slug, network) for slug in SLUGS for network in cards.load(slug).networks]


def test_there_is_a_card_a_room_and_a_config_for_each_paper():
    """A room without a network and a module has functions that other papers call, and no experiment yet."""
    rooms = [path.parent for path in cards.PAPERS.glob("*/__init__.py")]
    trained = {room.name for room in rooms if any((room / f"{name}.py").is_file() for name in ("network", "module"))}
    assert {"resnet", "resnext", "res2net", "scnet", "senet"} | EFFICIENT <= trained
    assert trained <= set(SLUGS) <= {room.name for room in rooms}
    assert set(SLUGS) == {path.stem for path in CONF.glob("*.yaml")}


@pytest.mark.parametrize(("slug", "network"), NETWORKS, ids=[network.name for _, network in NETWORKS])
def test_counts_are_what_is_counted(slug, network):
    importlib.import_module(f"paperzoo.papers.{slug}")
    with torch.device("meta"):
        built = timm.create_model(network.name, in_chans=network.input_size[0], num_classes=network.num_classes)
    counted = count(built, network.input_size)
    assert (counted.parameters, counted.macs) == (network.parameters, network.macs)


def test_small_networks_are_of_one_cost():
    """A comparison of papers at the skeleton's defaults is one of their ideas: parameters within 5 % of the baseline.

    MACs are within 11 %: SCNet's third kernel sees the large maps of the first stage, too. Efficient networks and
    strip pooling have more parameters at the same MACs.
    """
    small = {slug: cards.load(slug).network(f"{slug}_small") for slug in ON_SKELETON}
    for slug, network in small.items():
        assert slug in BY_MACS or network.parameters == pytest.approx(small["resnet"].parameters, rel=0.05)
        assert network.macs == pytest.approx(small["resnet"].macs, rel=0.11)


@pytest.mark.parametrize("slug", SLUGS)
def test_config_and_card_agree(slug):
    card = cards.load(slug)
    config = yaml.safe_load((CONF / f"{slug}.yaml").read_text())
    config = config.get("model", config)  # a file that sets something besides is _global_
    assert config["name"] == slug
    assert config["network"] in card.known()
    common = ("defaults", "name", "_target_", "network", "checkpoint")
    options = {key: value for key, value in config.items() if key not in common}
    own = [option for option in card.options if option.of == "model"]
    assert list(options) == [option.name for option in own]
    resolved = compose("train", [f"model={slug}"]).model.model_extra or {}
    for option in own:
        assert option.demand(resolved[option.name]) is None
        assert option.only_for is None or options[option.name] is None  # else it would refuse the other networks


@pytest.mark.full
@pytest.mark.parametrize("slug", SLUGS)
def test_every_experiment_of_a_card_composes(slug, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 8)
    for claim in cards.load(slug).claims:
        for pair in filter(None, (claim.test, claim.scaled_test)):
            assert pair.baseline != pair.result
            for words in (pair.baseline, pair.result):
                composes(words)
    for deviation in cards.load(slug).deviations:
        if deviation.undo:
            composes(f"model={slug} {deviation.undo}")


@lru_cache  # many claims have the same baseline
def composes(words):
    compose("train", words.split())


@pytest.mark.parametrize("slug", ON_SKELETON)
def test_options_reach_the_network(slug):
    """Each option, set to another value than its default, changes the small network."""
    importlib.import_module(f"paperzoo.papers.{slug}")
    other = {
        "depth": 20, "width": 24, "pooling_rate": 2, "identity": False, "pooling": "max", "cardinality": 4,
        "base_width": 40, "scale": 2, "groups": 2, "using_bn": False, "using_moving_average": False, "unbiased": True,
        "multiplier": 0.3, "separable": False, "shallow": True, "expansion": 2, "residual": False, "linear": False,
        "squeeze_ratio": 0.5, "pct_3x3": 0.25, "bypass": True,
        "shuffle": False,
        "keep": 0.5,
        "mpms": 1, "short_range": False, "long_range": False,
    }  # fmt: skip
    x = torch.randn(2, 3, 32, 32)

    def logits(name, **options):
        torch.manual_seed(0)
        network = timm.create_model(name, **options)
        for _ in range(3):
            network(x)  # running statistics are part of the outputs
        return network.eval()(x)

    card = cards.load(slug)
    for option in (option for option in card.options if option.of == "model"):
        small = next((name for name in card.known() if name.endswith("_small") and option.applies_to(name)), None)
        if option.name in ("B", "real_B"):  # they matter after 100 iterations: test_mabn.py
            continue
        if option.name in ("scheduled", "auxiliary", "drop_rate"):  # they matter in training: test_nasnet.py
            continue
        value = other.get(option.name, (option.values or [2])[-1])  # another value, where none is named above
        assert not torch.equal(logits(small), logits(small, **{option.name: value})), option.name


@pytest.mark.parametrize("slug", ON_SKELETON)
def test_the_module_builds_what_the_card_names(slug):
    card = cards.load(slug)
    small = built(f"model={slug}", classes=10)
    name = compose("train", [f"model={slug}"]).model.network
    assert count(small, (1, 28, 28)).parameters == card.network(name).parameters
    large = built(f"model={slug}", f"model.network={card.known()[-1]}", classes=5)
    assert all(m.weight.min() == 1 for m in large.modules() if isinstance(m, torch.nn.BatchNorm2d))


def built(*words: str, classes: int) -> torch.nn.Module:
    """The network of a run's module, for grey images."""
    info = {"num_classes": classes, "in_chans": 1, "image_size": 28, "class_names": []}
    return make_module(compose("train", list(words)), SimpleNamespace(info=info)).network


def test_no_figure_from_memory():
    """Figures that nobody can count again, or that were quoted from memory, are in no card."""
    text = "".join((cards.PAPERS / slug / "card.yaml").read_text() for slug in SLUGS)
    assert "23.85" not in text
    assert "(memory)" not in text


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a damaged copy of SCNet's card and load it."""
    content = yaml.safe_load((cards.PAPERS / "scnet" / "card.yaml").read_text())
    monkeypatch.setattr(cards, "PAPERS", tmp_path)
    (tmp_path / "scnet").mkdir()

    def load(change):
        damaged = copy.deepcopy(content)
        text = change(damaged)
        (tmp_path / "scnet" / "card.yaml").write_text(text if isinstance(text, str) else yaml.safe_dump(damaged))
        cards.load.cache_clear()
        try:
            return cards.load("scnet")
        finally:
            cards.load.cache_clear()

    return load


def measured(**change):
    entry = {"claim": "imagenet", "report": "r", "what": "a less b", "runs": ["a"], "n": 1, "mean": 0.5,
             "interval": [0.1, 0.9], "scale": "s", "verdict": "direction holds (scaled down)"}  # fmt: skip
    return lambda card: card.update(measured=[entry | change])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("title") and None, ["title", "required"]),
        (lambda c: c.update(year="2020"), ["year", "integer"]),
        (lambda c: c.update(yeer=2020), ["yeer", "not permitted"]),
        (lambda c: c.update(slug="resnet"), ["slug", "resnet"]),
        (lambda c: c.update(arxiv="http"), ["arxiv"]),
        (lambda c: c.update(kinds=["backbones"]), ["kinds.0", "backbone"]),
        (lambda c: c["networks"][0].update(parameters=0), ["networks.0.parameters", "greater"]),
        (lambda c: c["networks"][0].update(parameters=True), ["networks.0.parameters", "integer"]),
        (lambda c: c["networks"][0].update(input_size=[]), ["networks.0.input_size"]),
        (lambda c: c["networks"][1].pop("source") and None, ["networks.1", "reported and source"]),
        (lambda c: c["networks"].append(c["networks"][0]), ["scnet_small stands twice"]),
        (lambda c: c["options"][0].update(type="integer"), ["options.0.type"]),
        (lambda c: c["options"][0].update(only_for="*_tiny"), ["depth is for no network"]),
        (lambda c: c["claims"][0].pop("test") and None, ["claims.0", "a test"]),
        (lambda c: c["claims"][1].update(id="imagenet"), ["imagenet stands twice"]),
        (measured(verdict="better"), ["measured.0.verdict", "not attempted"]),
        (measured(claim="none"), ["no claim none"]),
        (measured(interval=[0.6, 0.9]), ["measured.0", "interval"]),
        (measured(mean=float("nan")), ["measured.0.mean"]),
        (lambda c: "slug: [", ["no YAML"]),
        (lambda c: "", ["card"]),
    ],
)
def test_a_mistake_is_one_line_with_file_and_field(write, change, says):
    with pytest.raises(UserError) as caught:
        write(change)
    text = str(caught.value)
    assert "\n" not in text
    assert "scnet/card.yaml" in text
    assert all(word in text for word in says), text


def test_status_is_what_was_measured(write):
    assert write(lambda card: card.update(measured=[])).status == f"{len(cards.load('scnet').claims)} not attempted"
    card = write(measured())
    assert card.status_of("imagenet") == "direction holds (scaled down)"
    assert card.status == f"1 direction holds (scaled down), {len(card.claims) - 1} not attempted"
    assert card.verdicts("imagenet")[0].mean == 0.5
    assert card.verdicts("mask_rcnn50") == []


def test_a_paper_that_is_not_there():
    with pytest.raises(UserError, match=r"scnett: there is no such paper; papers: .*resnet.*; did you mean scnet\?$"):
        cards.load("scnett")
    with pytest.raises(UserError, match="no such paper"):
        cards.load("../papers/scnet")


@pytest.mark.parametrize("module", ["paperzoo.cards", "paperzoo.zoo", "paperzoo.papers"])
def test_nothing_heavy_is_imported(module):
    code = f"import sys, {module}; from paperzoo.cards import *; [load(s) for s in slugs()]; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "numpy", "pytorch_lightning", "timm"} & set(loaded)
