"""What a checkpoint restores beside weights: the generators of all libraries, and which weights were best."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from paperzoo import random_state
from paperzoo.metric import Metric
from paperzoo.runs.exact_state import Best


def drawn() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002  the global one


def test_every_librarys_generator_goes_on_where_it_was():
    random_state.seed_everything("a", 3)
    drawn()
    saved = random_state.state()
    first = drawn()
    random_state.seed_everything("b")
    random_state.restore(saved)
    assert drawn() == first


@pytest.mark.parametrize(("goal", "better", "worse"), [("max", 0.6, 0.4), ("min", 0.4, 0.6)])
def test_the_best_weights_are_those_that_the_metrics_goal_says(goal, better, worse):
    best = Best(Path("unused"), Metric("m", goal=goal))
    assert not best._is_better(float("nan"))
    best.value = 0.5
    assert best._is_better(better)
    assert not any(best._is_better(value) for value in (worse, 0.5, float("nan")))
