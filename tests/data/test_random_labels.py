"""Random labels of the training images: how many, which, and that nothing else changes."""

import socket

import numpy as np
import PIL.Image
import pytest
from datasets import ClassLabel, Dataset, Features, Image

from paperzoo.config import compose, dump, load_config
from paperzoo.data.interface import make_data
from paperzoo.data.random_labels.module import randomised
from paperzoo.errors import UserError

SMALL = ["model=resnet", "trainer=cpu", "data.limit_train=400", "data.validation=50", "data.test=50"]


def data_of(*words, data="mnist5k_random_labels"):
    return make_data(compose("train", [*SMALL, f"data={data}", *words]))


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8, 1.0])
def test_the_share_and_the_evenness_of_random_labels(share):
    """Of 20,000 labels of one class, share * 9 / 10 become another; each class gets a tenth of the random ones."""
    new = randomised(np.full(20000, 3), 10, share, seed=1)
    counts = np.bincount(new, minlength=10)
    expected, five_sigma = share * 2000, 5 * (share * 20000 * 0.09) ** 0.5
    assert np.abs(np.delete(counts, 3) - expected).max() < five_sigma
    assert abs(counts[3] - (20000 - 9 * expected)) < 3 * five_sigma


def test_exactly_the_rounded_number_is_drawn_and_larger_shares_contain_smaller_ones():
    labels = np.full(1000, 5000)  # no draw gives it
    first, second = (randomised(labels, 10, share, seed=0) for share in (0.2, 0.5))
    assert ((first != 5000).sum(), (second != 5000).sum()) == (200, 500)
    assert (first[first != 5000] == second[first != 5000]).all()
    assert not np.array_equal(first, randomised(labels, 10, 0.2, seed=1))
    assert (labels == 5000).all()
    assert np.array_equal(randomised(labels, 10, 0.0, seed=0), labels)


def test_validation_test_and_images_are_as_they_are():
    plain, noisy = data_of(data="mnist5k"), data_of()
    for name in ("train", "val", "test"):
        assert np.array_equal(plain.parts[name].images, noisy.parts[name].images)
    for name in ("val", "test"):
        assert np.array_equal(plain.parts[name].labels, noisy.parts[name].labels)
    true = plain.parts["train"].labels
    assert np.array_equal(noisy.parts["train"].labels, randomised(true, 10, 0.5, seed=0))
    seen = np.concatenate([batch[1] for batch in noisy.train_dataloader()])
    assert set(seen) == set(range(10))


def test_labels_are_of_the_fingerprint_and_not_of_the_runs_seed():
    prints = [
        data_of(*words).fingerprint
        for words in ([], ["seed=1"], ["data.label_seed=1"], ["data.random_labels=0.2"], ["data.random_labels=0.0"])
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 4
    assert prints[4] == data_of(data="mnist5k").fingerprint


def test_undecoded_images_have_the_same_labels():
    kept, decoded = data_of(), data_of("data.in_memory=false", "data.image_size=28")
    assert np.array_equal(kept.parts["train"].labels, decoded.parts["train"].labels)
    pairs = (np.concatenate([batch[1] for batch in data.train_dataloader()]) for data in (kept, decoded))
    assert np.array_equal(*pairs)


def test_it_survives_the_record_and_mistakes_are_refused():
    config = compose("train", [*SMALL, "data=mnist5k_random_labels", "data.random_labels=0.8"])
    assert load_config(dump(config)) == config
    for word, line in {
        "data.random_labels=1.5": "data.random_labels=1.5: must be",
        "data.label_seeds=1": "data.label_seeds=1: there is no such key",
    }.items():
        with pytest.raises(UserError) as caught:
            compose("train", [*SMALL, "data=mnist5k_random_labels", word])
        assert line in str(caught.value)
    with pytest.raises(UserError, match=r"data.streaming=true: labels of a stream are not known beforehand"):
        compose("train", ["model=resnet", "data=cifar10_random_labels", "data.streaming=true", "data.validation=100"])


@pytest.mark.parametrize("name", ["cifar10", "fashion_mnist"])
def test_it_composes_without_the_network_and_takes_the_folder_of_the_true_labels(name, tmp_path, monkeypatch):
    """No connection is tried, neither by composing nor where the folder is there; two classes, ten images each."""

    def refuse(*_):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    words = ["model=resnet", "trainer=cpu", f"data={name}_random_labels", f"paths.data_dir={tmp_path}"]
    compose("train", words)
    labels = [k % 2 for k in range(20)]
    column = "img" if name == "cifar10" else "image"
    features = Features({column: Image(), "label": ClassLabel(names=["a", "b"])})
    pictures = [PIL.Image.fromarray(np.full((8, 8), 10 * k, np.uint8)) for k in range(20)]
    for split in ("train", "test"):
        part = Dataset.from_dict({column: pictures, "label": labels}, features=features)
        part.to_parquet(tmp_path / name / f"{split}-00000-of-00001.parquet")
    more = ["data.validation=4", "data.batch_size=2", "data.random_labels=1.0"]
    noisy, plain = (make_data(compose("train", [*base, *more[:count]])) for base, count in (
        (words, 3), ([*words[:2], f"data={name}", words[3]], 2)))  # fmt: skip
    assert np.array_equal(noisy.parts["train"].images, plain.parts["train"].images)
    true = plain.parts["train"].labels
    assert np.array_equal(noisy.parts["train"].labels, randomised(true, 2, 1.0, seed=0))
