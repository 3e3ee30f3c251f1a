"""Every room with images, batches and widths that are drawn: it works, or one line names the constraint."""

from functools import cache

import pytest
import shapes
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from paperzoo import cards
from paperzoo.config import compose
from paperzoo.errors import UserError
from paperzoo.training import make_module

pytestmark = pytest.mark.full

few = st.integers(1, 5)
widths = st.integers(1, 20)
OPTIONS = {  # what is drawn for a room: whatever may not divide, or leave nothing
    "resnet": {"width": widths},
    "resnext": {"width": widths, "cardinality": few, "base_width": st.integers(1, 70)},
    "res2net": {"width": widths, "scale": few, "base_width": st.integers(1, 70), "cardinality": few},
    "scnet": {"width": st.integers(2, 20), "pooling_rate": few},
    "senet": {"width": widths, "reduction": st.integers(1, 40), "cardinality": few, "base_width": st.integers(1, 70)},
    "mobilenet_v1": {"multiplier": st.floats(0.05, 0.3)},
    "mobilenet_v2": {"multiplier": st.floats(0.05, 0.3), "expansion": st.floats(1, 3)},
    "squeezenet": {"squeeze_ratio": st.floats(0.01, 1), "pct_3x3": st.floats(0.01, 0.99)},
    "strip_pooling": {"width": st.integers(2, 20), "spm": st.sampled_from(["both", "last", "stage", "none"])},
    "nasnet": {"filters": st.integers(2, 5), "auxiliary": st.sampled_from([None, 0.4]), "keep": st.floats(0.1, 1)},
    "shufflenet_v1": {"width": widths, "groups": st.sampled_from([1, 2, 3, 4, 8]), "depth": st.just(11)},
    "shufflenet_v2": {"width": widths, "depth": st.just(11)},
    "group_norm": {"width": widths, "groups": st.integers(1, 9)},
    "switchable_norm": {"width": widths},
    "mabn": {"width": widths},
    "sync_batch_norm": {"width": widths},
}
LARGE = {  # networks for 224 pixels: 32 pixels come to a last map of one
    "resnet": "resnet18",
    "senet": "seresnet50",
    "mobilenet_v1": "mobilenetv1_025",
    "mobilenet_v2": "mobilenetv2_035",
    "shufflenet_v1": "shufflenet_v1_g3_0_5x",
    "shufflenet_v2": "shufflenet_v2_0_5x",
    "nasnet": "nasnet_a_mobile",
    "squeezenet": "squeezenet1_1",
}

assert set(OPTIONS) >= {s for s in cards.slugs() if "backbone" in cards.load(s).kinds or "norm" in cards.load(s).kinds}


@cache
def configured(paper: str, *words: str):
    return compose("train", [f"model={paper}", *words])


def built(paper: str, chans: int, *words: str, **options):
    config = configured(paper, *words)
    data = shapes.images(4, chans)
    return make_module(config.model_copy(update={"model": config.model.model_copy(update=options)}), data)


def steps(module, images: torch.Tensor, training: bool) -> None:
    """A forward pass, in training a backward pass too: all numbers are finite."""
    labels = torch.arange(len(images)) % 4
    if not training:
        with torch.no_grad():
            assert module.eval()(images).isfinite().all()
        return
    logits, loss = module.train().logits_and_loss(images, labels)
    loss.backward()
    assert logits.shape == (len(images), 4)
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())


@pytest.mark.parametrize("paper", OPTIONS)
@settings(max_examples=6, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_it_works_or_one_line_says_why(paper, data):
    torch.manual_seed(0)
    options = {name: data.draw(values, name) for name, values in OPTIONS[paper].items()}
    chans, batch = data.draw(st.integers(1, 4), "channels"), data.draw(st.integers(1, 3), "batch")
    high, wide = data.draw(st.integers(1, 24), "high"), data.draw(st.integers(1, 24), "wide")
    try:
        module = built(paper, chans, **options)
        steps(module, torch.rand(batch, chans, high, wide), data.draw(st.booleans(), "training"))
    except UserError as error:
        refused = str(error)
        assert "\n" not in refused
        assert any(word in refused for word in [*options, "channels", "image", "pixel", "maps"])


@pytest.mark.parametrize("paper", LARGE)
def test_one_image_of_one_pixel_maps_works_or_is_one_line(paper):
    """In training BatchNorm has one number per channel there; two images, a larger one and evaluation work."""
    module = built(paper, 1, f"model.network={LARGE[paper]}")
    image = torch.rand(1, 1, 32, 32)
    if paper == "squeezenet":  # has no normalisation
        steps(module, image, training=True)
        return
    with pytest.raises(UserError, match=r"32x32.* BatchNorm ") as caught:
        steps(module, image, training=True)
    assert "\n" not in str(caught.value)
    steps(module, image, training=False)
    steps(module, torch.rand(2, 1, 32, 32), training=True)
    steps(module, torch.rand(1, 1, 68, 68), training=True)


@pytest.mark.parametrize("paper", ["shufflenet_v1", "nasnet", "scnet"])
def test_synchronised_layers_may_have_one_number_on_a_rank(paper):
    """Other ranks bring more; alone, its variance is zero."""
    words = ["norm=sync_batch"] + ([f"model.network={LARGE[paper]}"] if paper in LARGE else [])
    steps(built(paper, 1, *words), torch.rand(1, 1, *([4, 4] if paper == "scnet" else [32, 32])), training=True)


def test_instance_normalisation_of_one_pixel_is_one_line():
    module = built("resnet", 1, "model.network=resnet18", "norm=instance")
    with pytest.raises(UserError, match=r"2 images of 32x32: .* InstanceNorm cannot train .* norm=group"):
        steps(module, torch.rand(2, 1, 32, 32), training=True)


def test_another_error_is_not_explained_away():
    module = built("resnet", 1)
    module.network.register_forward_pre_hook(lambda *_: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        steps(module, torch.rand(1, 1, 8, 8), training=False)
