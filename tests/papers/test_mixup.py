"""Mixup against its definition, the official loss and Beta's distribution."""

import pytest
import scipy.stats
import torch
from torch.nn import functional as F

from paperzoo.papers.mixup import Mixup
from paperzoo.papers.mixup.mixup import beta


def batch(size=16, classes=5, dtype=torch.float64):
    """Images that name their sample: image i is i everywhere."""
    torch.manual_seed(size)
    images = torch.arange(size, dtype=dtype).view(-1, 1, 1, 1).expand(size, 2, 3, 3).clone()
    return images, torch.randint(classes, (size,))


def partner_and_weight(mix, images, labels):
    """Which permutation and which λ a call drew, by drawing again from the same state."""
    state = torch.get_rng_state()
    mixed, targets = mix(images, labels)
    torch.set_rng_state(state)
    partner = torch.randperm(len(images))
    weight = beta(mix.alpha, len(images) if mix.per_sample else 1)
    return mixed, targets, partner, weight.expand(len(images))


@pytest.mark.parametrize("per_sample", [False, True])
def test_images_and_targets_are_mixed_alike_and_the_loss_is_the_official_one(per_sample):
    images, labels = batch()
    logits = torch.randn(16, 5, dtype=torch.float64)
    mixed, targets, partner, weight = partner_and_weight(Mixup(0.7, 5, per_sample), images, labels)
    assert sorted(partner.tolist()) == list(range(16))
    for i in range(16):
        lam, j = float(weight[i]), int(partner[i])
        torch.testing.assert_close(mixed[i], lam * images[i] + (1 - lam) * images[j])
        expected = torch.zeros(5, dtype=torch.float64)
        expected[labels[i]] += lam
        expected[labels[j]] += 1 - lam
        torch.testing.assert_close(targets[i], expected)
    each = weight * F.cross_entropy(logits, labels, reduction="none")
    each += (1 - weight) * F.cross_entropy(logits, labels[partner], reduction="none")
    torch.testing.assert_close(F.cross_entropy(logits, targets), each.mean())
    assert len(set(weight.tolist())) == (16 if per_sample else 1)


def test_the_partner_is_a_new_permutation_at_each_call_neither_a_flip_nor_a_roll():
    images, labels = batch(64)
    seen = set()
    for _ in range(20):
        _, _, partner, _ = partner_and_weight(Mixup(1.0, 5), images, labels)
        torch.rand(1)
        seen.add(tuple(partner.tolist()))
        assert partner.tolist() != list(range(63, -1, -1))
        assert len({(int(p) - i) % 64 for i, p in enumerate(partner)}) > 1  # a roll has one
    assert len(seen) == 20


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 8.0])
def test_weights_are_of_beta_and_not_folded(alpha):
    torch.manual_seed(3)
    weights = beta(alpha, 4000).numpy()
    assert weights.dtype == "float64"
    assert ((weights >= 0) & (weights <= 1)).all()
    assert 0.4 < (weights < 0.5).mean() < 0.6
    if alpha > 0.1:  # below, half of the draws round to exactly 0 or 1
        assert scipy.stats.kstest(weights, scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-4
    else:
        assert (
            abs(((weights > 0.01) & (weights < 0.99)).mean() - (1 - 2 * scipy.stats.beta(alpha, alpha).cdf(0.01)))
            < 0.03
        )


def test_alpha_zero_is_plain_training_and_draws_nothing():
    images, labels = batch(dtype=torch.float32)
    state = torch.get_rng_state()
    mixed, targets = Mixup(0, 5)(images, labels)
    assert torch.equal(mixed, images)
    assert torch.equal(targets, F.one_hot(labels, 5).float())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_kept_and_nothing_is_changed_in_place(dtype):
    images, labels = batch(dtype=dtype)
    before = images.clone(), labels.clone()
    mixed, targets = Mixup(1.0, 5)(images, labels)
    assert mixed.dtype == targets.dtype == dtype
    assert torch.equal(images, before[0])
    assert torch.equal(labels, before[1])
    assert mixed.isfinite().all()
    torch.testing.assert_close(targets.float().sum(1), torch.ones(16), atol=1e-2, rtol=0)


@pytest.mark.parametrize("size", [0, 1])
def test_a_batch_of_one_and_of_none(size):
    images, labels = batch(size)
    mixed, targets = Mixup(1.0, 5)(images, labels)
    torch.testing.assert_close(mixed, images)
    torch.testing.assert_close(targets, F.one_hot(labels, 5).double())


def test_the_same_state_mixes_the_same():
    images, labels = batch()
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(Mixup(0.3, 5, per_sample=True)(images, labels)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((-0.1, 5), "alpha=-0.1"), ((float("nan"), 5), "alpha=nan"), ((1.0, 0), "num_classes=0")],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Mixup(*arguments)


def test_bad_batches_are_named():
    images, labels = batch()
    with pytest.raises(TypeError, match="int32"):
        Mixup(1.0, 5)(images, labels.int())
    with pytest.raises(TypeError, match="uint8"):
        Mixup(1.0, 5)(images.byte(), labels)
    with pytest.raises(ValueError, match="must be 0 to 1"):
        Mixup(1.0, 2)(images, labels.clamp(min=3))
    with pytest.raises(ValueError, match="for 16 images"):
        Mixup(1.0, 5)(images, labels[:3])
