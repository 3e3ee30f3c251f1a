"""Models, norms, mixes, losses, schedules, optimisers and samplers in pairs: what composes trains, or it is refused."""

import copy

import covering
import pytest
import torch
from covering import Run

from paperzoo.config import compose
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.machine import make_trainer
from paperzoo.pages import choices
from paperzoo.pages.choices import GROUPS, Model
from paperzoo.tasks.making import make_module

TAKEN = covering.allowed()
RUNS = covering.array(TAKEN)
FEW = [  # of every kind of task, with words that change the most
    Run(
        Model("resnet"),
        dict(zip(GROUPS, ("switchable", "mixup_paper", "focal", "snapshot", "timm", "pk"), strict=True)),
    ),
    Run(
        Model("lstm"), dict(zip(GROUPS, ("paper", "none", "smoothing", "warmup_step", "sgd", "bootstrap"), strict=True))
    ),
    Run(Model("triplet"), dict(zip(GROUPS, ("group", "none", "triplet", "poly", "adamw", "pk"), strict=True))),
]


def train_two_steps(run: Run) -> None:
    """As a run does it: Lightning's trainer, the chosen optimiser and schedule."""
    config = run.config()
    data = make_data(config)
    module = make_module(config, data)
    before = copy.deepcopy(module.network.state_dict())
    trainer = make_trainer(config)
    trainer.limit_val_batches = 0
    trainer.fit(module, datamodule=data)
    assert trainer.global_step == 2
    after = module.network.state_dict()
    assert all(value.isfinite().all() for value in after.values() if value.is_floating_point())
    assert any(not torch.equal(after[name], before[name]) for name, _ in module.network.named_parameters())


@pytest.mark.promise
@pytest.mark.parametrize("run", FEW, ids=lambda run: run.model.name)
def test_a_few_compositions_train(run):
    assert run.config() == compose("train", run.words())
    train_two_steps(run)


@pytest.mark.full
@pytest.mark.parametrize("model", TAKEN, ids=str)
def test_every_pair_of_words_trains_two_steps(model):
    for run in RUNS:
        if run.model == model:
            try:
                train_two_steps(run)
            except Exception as error:
                error.add_note(f"python src/train.py {' '.join(run.words())}")
                raise


def test_every_pair_that_is_not_refused_is_in_a_run():
    together = set().union(*(covering.pairs_of(run.chosen) for run in RUNS))
    assert together | covering.refused_pairs() == covering.every_pair()
    assert not together & covering.refused_pairs()
    for model, taken in TAKEN.items():
        runs = [run.chosen for run in RUNS if run.model == model]
        assert {group: {run[group] for run in runs} for group in GROUPS} == {g: set(w) for g, w in taken.items()}


def test_the_page_has_every_word_and_model():
    assert covering.words_on_page() == {group: choices.words(group) for group in GROUPS}
    assert {model.name for model in TAKEN} == set(choices.words("model"))


@pytest.mark.full
def test_the_page_is_current(monkeypatch):
    """At half the cost: words are put into a model's composition and taken out again, not into a copy of it."""
    original = choices.composed

    def composed(model, chosen):
        base = choices._base(model)
        kept = {group: base[group] for group in chosen}
        try:
            return original(model, chosen)
        finally:
            for group, node in kept.items():
                base[group] = node

    monkeypatch.setattr(choices, "deepcopy", lambda base: base)
    monkeypatch.setattr(choices, "composed", composed)
    choices._base.cache_clear()
    page = choices.page()
    choices._base.cache_clear()  # their structure is open now
    assert page == covering.PAGE.read_text(), "write it again: python -m paperzoo.pages.choices"


@pytest.mark.full
@pytest.mark.parametrize("run", RUNS[::12], ids=lambda run: run.model.name)
def test_the_page_composes_as_hydra_does(run):
    """Whole configurations are equal, but for the epochs that the page allows."""
    words = [*run.model.words, *(f"{group}={word}" for group, word in run.chosen.items())]
    needs = [word for one in words for word in covering.TINY.get(one, []) if "weighted" in one]
    fast = choices.composed(run.model, run.chosen)
    slow = compose("train", [*words, *needs, "trainer=cpu", f"trainer.max_epochs={choices.EPOCHS}", "logger=none"])
    assert fast.model_dump(exclude={"sampler"}) == slow.model_dump(exclude={"sampler"})
    assert fast.sampler.name == slow.sampler.name


@pytest.mark.parametrize(("words", "line"), [
    (["model=lstm", "norm=group"],
     "norm=group with model=lstm: its network has no normalisation layers to replace; use norm=paper"),
    (["model=resnet", "loss=triplet"],
     "loss=triplet with data=mnist5k: it is of embeddings; it goes with data for retrieval, this is for "
     "classification"),
    (["model=resnet", "loss=task"], "loss=task: classification has none of its own; use loss=cross_entropy"),
    (["model=htc", "loss=focal"],
     "loss=focal with data=pasted_digits: detectors have losses of their own; use loss=task"),
    (["model=retinanet", "loss=focal"],
     "loss=focal with data=pasted_digits: detectors have losses of their own; use loss=task and "
     "model.classification_loss"),
    (["model=lstm", "sampler=long_tailed"],
     "sampler=long_tailed: this data has no class for each training sample; use sampler=shuffled"),
    (["model=htc", "sampler=weighted", "sampler.class_weights=[1,1]"],
     "sampler=weighted: this data has no class for each training sample; use sampler=shuffled"),
    (["model=resnet", "sampler=weighted"],
     "sampler=weighted: give sampler.class_weights or sampler.file, one of the two"),
])  # fmt: skip
def test_impossible_pairs_are_refused_at_composition(words, line):
    with pytest.raises(UserError) as caught:
        compose("train", words)
    assert str(caught.value) == line
