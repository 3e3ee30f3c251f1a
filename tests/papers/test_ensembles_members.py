"""A member of an ensemble, taken out as a model of its own."""

from types import SimpleNamespace

import forked
import pytest
import torch
from contract import configured, equal_state

import paperzoo
from paperzoo.data.interface import make_data
from paperzoo.errors import UserError
from paperzoo.inference import exporting, loading
from paperzoo.tasks.ensembles import EnsembleClassification
from paperzoo.tasks.making import make_module
from paperzoo.training import train

pytestmark = pytest.mark.full
SMALL = ["data.image_size=12", "trainer.max_epochs=1"]
KINDS = {
    "bagging": ["model.members=2", "model.member=scnet", "norm=group", "data.image_size=28"],
    "boosting": [
        "model.members=2",
        "norm=group",
        "optimizer.lr=0.05",
        "data.limit_train=160",
        "data.augment.crop_padding=0",
    ],  # both are trained
    "stacking": ["model.papers=[resnet,scnet]", "procedure.folds=2", "procedure=stacking", "model.learners=[knn]"],
}


@pytest.fixture(scope="module", params=KINDS)
def trained(request, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    words = [*SMALL, *KINDS[request.param]]
    return request.param, train(configured(request.param, *words, runs=runs)), runs, words


def test_a_member_gives_its_own_logits_and_is_a_module_of_its_paper(trained):
    kind, entry, runs, words = trained
    whole = paperzoo.load(entry.id, runs_dir=runs)
    images = make_data(configured(kind, *words)).tensors("test")[0][:4].float() / 255
    for number in range(2):
        network = paperzoo.load(entry.id, member=number, runs_dir=runs)
        assert equal_state(network.state_dict(), whole.members[number].state_dict())
        with torch.no_grad():
            assert torch.equal(network(images), whole.members[number](images))
        assert network.class_names == whole.class_names
    alone = loading.member_of(loading.read(entry.id, runs_dir=runs), 1)
    assert not isinstance(alone.module, EnsembleClassification)
    assert alone.groups["model"]["name"] == {"bagging": "scnet", "boosting": "resnet", "stacking": "scnet"}[kind]
    assert alone.groups["norm"]["name"] == entry.config["norm"]["name"]


def test_a_member_is_written_and_read_again(trained, tmp_path, capsys, monkeypatch):
    _, entry, runs, _ = trained
    monkeypatch.setattr(exporting, "subprocess", SimpleNamespace(run=forked.in_place_of_a_process))
    path = exporting.run(
        entry.id, str(tmp_path / "member.safetensors"), format="safetensors", member=1, images=8, runs_dir=str(runs)
    )
    assert "equal the network's" in " ".join(capsys.readouterr().out.split())
    again = paperzoo.load(path)
    assert equal_state(again.state_dict(), paperzoo.load(entry.id, member=1, runs_dir=runs).state_dict())


def test_what_is_no_member_is_one_line(trained):
    kind, entry, runs, _ = trained
    with pytest.raises(UserError, match=f"member=7: {entry.id} has members 0 to"):
        paperzoo.load(entry.id, member=7, runs_dir=runs)
    if kind == "stacking":
        with pytest.raises(UserError, match="member=2: Neighbours is a learner, no network"):
            paperzoo.load(entry.id, member=2, runs_dir=runs)
    alone = loading.member_of(loading.read(entry.id, runs_dir=runs), 0)
    with pytest.raises(UserError, match=r"member=0: .* is no ensemble whose members are models"):
        loading.member_of(alone, 0)


def test_a_member_that_was_not_trained_is_one_line():
    config = configured("boosting", *KINDS["boosting"], "model.members=3")
    module = make_module(config, make_data(config))
    for number in range(2):
        module.network.select(number)
    module.network.weigh([1.0])  # the second was no better than chance: it has no vote, but weights
    for number in range(2):
        assert module.member_groups(number)["model"]["name"] == "resnet"
    with pytest.raises(UserError, match="member=2: was not trained, as boosting ended before it, or has diverged"):
        module.member_groups(2)
    with torch.no_grad():
        module._drop(1)
    with pytest.raises(UserError, match="member=1: was not trained"):
        module.member_groups(1)
