"""The retrieval task: rankings against a naive loop, what training says of triplets, over ranks, pictures."""

import math

import pytest
import torch
from composed import compose
from contract import IMAGES

from paperzoo.data.interface import Batch, make_data
from paperzoo.errors import UserError
from paperzoo.runs import record
from paperzoo.tasks import retrieval
from paperzoo.tasks.making import make_module
from paperzoo.tasks.retrieval import principal, ranking
from paperzoo.training import train

SMALL = ["model=triplet", "trainer=cpu", "trainer.max_epochs=1", "logger=none", *IMAGES, "model.width=4",
         "model.hidden=8", "model.embedding=6"]  # fmt: skip


def naive(x, labels):
    """Average precision, and whether a match is among the first k, of each query that has one."""
    precisions, firsts = [], []
    for query in range(len(x)):
        others = [other for other in range(len(x)) if other != query]
        others.sort(key=lambda other: math.dist(x[query].tolist(), x[other].tolist()))  # stable
        hits = [bool(labels[other] == labels[query]) for other in others]
        if not any(hits):
            continue
        at = [place for place, hit in enumerate(hits, start=1) if hit]
        precisions.append(sum(number / place for number, place in enumerate(at, start=1)) / len(at))
        firsts.append(at[0])
    return precisions, firsts


@pytest.mark.parametrize("seed", range(4))
def test_a_ranking_is_that_of_a_naive_loop(seed, monkeypatch):
    monkeypatch.setattr(retrieval, "QUERIES", 7)  # several parts, the last one smaller
    chance = torch.Generator().manual_seed(seed)
    x = torch.randn(40, 3, generator=chance, dtype=torch.float64)
    labels = torch.randint(9, (40,), generator=chance)
    labels[5] = 50  # a query without a match
    found = ranking(x, labels)
    precisions, firsts = naive(x, labels)
    assert found.queries == len(precisions) < 40
    assert found.map == pytest.approx(sum(precisions) / len(precisions), rel=1e-12)
    for k in (1, 2, 5, 39):
        assert float(found.cmc[k - 1]) == pytest.approx(sum(first <= k for first in firsts) / len(firsts), rel=1e-12)
    assert len(found.cmc) == 39


def test_a_ranking_by_hand():
    """On a line: 0 (a), 1 (b), 3 (a), 7 (b)."""
    found = ranking(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), torch.tensor([0, 1, 0, 1]))
    # 0: 1, 3, 7 -> match second; 1: 0, 3, 7 -> third; 3: 1, 0, 7 -> second; 7: 3, 1, 0 -> second
    assert found.map == pytest.approx((1 / 2 + 1 / 3 + 1 / 2 + 1 / 2) / 4)
    assert found.cmc.tolist() == [0, 0.75, 1]


def test_edges_of_rankings():
    collapsed = ranking(torch.ones(6, 2), torch.tensor([0, 1, 0, 1, 0, 1]))  # all as far: in the order of the data
    precisions, _ = naive(torch.ones(6, 2), torch.tensor([0, 1, 0, 1, 0, 1]))
    assert collapsed.map == pytest.approx(sum(precisions) / 6)
    alone = ranking(torch.randn(4, 2), torch.arange(4))
    assert alone.queries == 0
    assert math.isnan(alone.map)
    nothing = ranking(torch.randn(1, 2), torch.zeros(1))
    assert nothing.queries == 0
    assert math.isnan(retrieval.recall(nothing.cmc, 1))
    assert retrieval.recall(torch.tensor([0.25, 0.5]), 10) == 0.5
    apart = ranking(torch.tensor([[0.0], [0.1], [9.0], [9.1]]), torch.tensor([0, 0, 1, 1]))
    assert (apart.map, apart.cmc[0]) == (1, 1)


def made(*words):
    config = compose("train", [*SMALL, *words])
    data = make_data(config)
    return make_module(config, data), data


def test_evaluation_ranks_the_whole_split_whatever_the_batches():
    module, data = made("data.eval_batch_size=9")
    module.eval()
    seen = []
    module.on_test_epoch_start()
    with torch.no_grad():
        for raw in data.test_dataloader():
            batch = data.on_after_batch_transfer(raw, 0)
            module.test_step(batch, 0)
            seen.append((module(batch.inputs), batch.targets))
    module.on_test_epoch_end()
    x, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
    precisions, firsts = naive(x.double(), labels)
    assert len(precisions) == 50
    assert module.results["test"] == pytest.approx(
        {"map": sum(precisions) / 50, **{f"recall{k}": sum(first <= k for first in firsts) / 50 for k in (1, 5, 10)}}
    )
    assert [name for name, _ in module.figures(data)] == ["embedding", "recall"]


def test_principal_directions_by_numpy():
    import numpy as np

    x = torch.randn(50, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * torch.arange(1, 6)
    points, share = principal(x)
    centred = (x - x.mean(0)).numpy()
    _, singular, directions = np.linalg.svd(centred)
    expected = centred @ directions[:2].T
    for k in range(2):
        sign = np.sign(expected[:, k] @ points[:, k].numpy())
        assert points[:, k].numpy() == pytest.approx(sign * expected[:, k])
    assert share == pytest.approx((singular[:2] ** 2).sum() / (singular**2).sum())
    assert principal(x[:, :1])[0].shape == (50, 2)


def test_training_counts_triplets_and_the_active_share():
    module, data = made("loss.mining=batch_all", "loss.margin=0.2")
    module.running = module.make_running()
    triplets, active = [], []
    for raw in list(data.train_dataloader())[:2]:
        batch = data.on_after_batch_transfer(raw, 0)
        losses = module.losses(batch)
        module.running.update(losses["loss"], losses, len(batch.inputs))
        x, y = module.loss.latest, batch.targets
        embeddings = module(batch.inputs).detach()  # batch normalisation's outputs do not depend on its averages
        above = valid = 0
        for a in range(16):
            for p in range(16):
                for n in range(16):
                    if a != p and y[a] == y[p] and y[a] != y[n]:
                        valid += 1
                        d_ap, d_an = (embeddings[a] - embeddings[p]).norm(), (embeddings[a] - embeddings[n]).norm()
                        above += bool(d_ap - d_an + 0.2 > 0)
        assert x.triplets == valid == 16 * 12 * 3  # PK (PK - K) (K - 1)
        triplets.append(valid)
        active.append(above)
    found = module.running.read()
    assert found["triplets"] == sum(triplets) / 2
    assert found["active"] == pytest.approx(sum(active) / sum(triplets), abs=2 / sum(triplets))  # a hinge at its edge


def test_a_run_records_its_metrics_and_pictures(tmp_path):
    entry = train(compose("train", [*SMALL, "trainer.max_epochs=2", "pictures=true", f"paths.runs_dir={tmp_path}"]))
    assert record.read(next(tmp_path.glob("triplet/*/1"))).status == "finished"
    metrics = entry.results["last"].metrics
    assert set(metrics) >= {"test/map", "test/recall1", "test/recall5", "test/recall10"}
    assert entry.epochs[-1]["train/triplets"] == 16 * 12 * 3  # of 4 classes with 4 images
    assert 0 < entry.epochs[-1]["train/active"] <= 1
    names = {path.stem for path in tmp_path.glob("triplet/*/1/**/*.png")}
    assert {"embedding", "recall"} <= names


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["loss=task"], "loss=task: retrieval has none of its own"),
        (["mix=mixup"], "mix=mixup with data=mnist5k: it mixes labels"),
        (["loss.mining=semi_hard"], "loss=triplet: margin='soft' with mining='semi_hard': these .*; give a number"),
        (["loss=cross_entropy"], "loss=cross_entropy with data=mnist5k: it is of a logit for each class; it goes with"),
    ],
)
def test_what_retrieval_cannot_do(words, line):
    with pytest.raises(UserError, match=line):
        made(*words)


def test_a_classifier_is_refused_for_retrieval_and_the_reverse():
    with pytest.raises(UserError, match=r"model=resnet with data=mnist5k: it does classification"):
        compose("train", ["model=resnet", "+data.task=retrieval"])
    with pytest.raises(UserError, match=r"model=triplet with data=mnist5k: it does retrieval"):
        compose("train", ["model=triplet", "data.task=classification"])


def test_weighted_samples_are_refused():
    module, data = made()
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    with pytest.raises(UserError, match="has no loss by sample"):
        module.losses(Batch(batch.inputs, batch.targets, batch.index, torch.ones(16)))


def test_every_fourth_image_of_a_batch_begins_an_identity():
    _, data = made()
    for raw in data.train_dataloader():
        labels = raw[1].view(4, 4)
        assert bool((labels == labels[:, :1]).all())
        assert len(labels[:, 0].unique()) == 4


def test_the_heads_normalisation_is_torchs():
    from paperzoo.papers.triplet.network import FeatureNorm

    own, torchs = FeatureNorm(5), torch.nn.BatchNorm1d(5)
    x = torch.randn(3, 8, 5)
    for batch in x:
        torch.testing.assert_close(own(batch), torchs(batch))
    torch.testing.assert_close(own.eval()(x[0]), torchs.eval()(x[0]))
