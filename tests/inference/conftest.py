"""Small trained runs, one a task, that the tests of applying them share."""

import numpy as np
import pytest
from composed import compose
from contract import configured
from PIL import Image

from paperzoo.training import load_data, train

CLASSIFIER = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=160", "data.batch_size=16",
              "data.validation=50", "data.test=60", "trainer=cpu", "trainer.max_epochs=2", "trainer.threads=1",
              "logger=none"]  # fmt: skip


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def classifier_words():
    """What the classifier is trained with."""
    return CLASSIFIER


@pytest.fixture(scope="session")
def classifier(runs):
    """The record of a classifier of digits."""
    return train(compose("train", [*CLASSIFIER, f"paths.runs_dir={runs}"]))


@pytest.fixture(scope="session")
def parser(runs):
    """The record of a network that labels pixels."""
    return train(configured("strip_pooling", "data=digit_maps", "trainer.threads=1", runs=runs))


@pytest.fixture(scope="session")
def detector(runs):
    """The record of a detector with masks."""
    return train(configured("mask_rcnn", runs=runs))


@pytest.fixture(scope="session")
def digits(tmp_path_factory, classifier):
    """The classifier's test images as files, in their order, and their labels."""
    folder = tmp_path_factory.mktemp("digits")
    data = load_data(compose("train", CLASSIFIER))
    images, labels = data.tensors("test")
    for place, image in enumerate(images):
        Image.fromarray(image[0].numpy()).save(folder / f"{place:03}.png")
    return folder, np.array(labels)
