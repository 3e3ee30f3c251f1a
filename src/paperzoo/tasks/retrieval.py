"""Retrieval: an embedding whose distances say what is alike, judged by a ranking of the rest for each query."""

import importlib
import math
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, NamedTuple

import timm
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from paperzoo.config.schema import Mix
from paperzoo.data.interface import Batch
from paperzoo.distributed import gather
from paperzoo.errors import UserError
from paperzoo.metric import Metric
from paperzoo.norms.single import explained
from paperzoo.tasks import pictures
from paperzoo.tasks.running import Running
from paperzoo.tasks.task import Task

RECALLS = (1, 5, 10)
QUERIES = 512  # whose distances to the whole gallery are in memory together
DRAWN = 3000  # embeddings in the picture


class Ranking(NamedTuple):
    """What rankings of a gallery are worth."""

    map: float  # mean average precision
    cmc: Tensor  # (N - 1,) float64: share of queries with a sample of their class among the first k
    queries: int  # that have another sample of their class


@torch.no_grad()
def ranking(embeddings: Tensor, labels: Tensor) -> Ranking:
    """Each sample is the query once, all others are its gallery, nearest first by Euclidean distance.

    A query's average precision is the mean, over the samples of its class, of the precision at their places (no
    interpolation, which scikit-learn's trapezoids would be). ``cmc[k - 1]``, the cumulative match characteristic, is
    recall@k as metric learning defines it. Queries without another sample of their class do not count; equal distances
    are ranked in the order of the data; without any query all is NaN.

    Args:
        embeddings: (N, D).
        labels: (N,).
    """
    x = embeddings.double()
    x = x - x.mean(0)  # little cancels in the product then
    squares, count = x.square().sum(1), len(x)
    places = torch.arange(1, count, dtype=torch.float64, device=x.device)  # (N - 1,)
    precision, queries = 0.0, 0
    first = torch.zeros(max(count - 1, 0), dtype=torch.int64, device=x.device)  # queries by their first match's place
    for query in torch.arange(count, device=x.device).split(QUERIES) if count > 1 else ():
        squared = torch.addmm(squares[query][:, None] + squares, x[query], x.T, alpha=-2).clamp_(min=0)  # (Q, N)
        order = squared.argsort(dim=1, stable=True)
        order = order[order != query[:, None]].view(len(query), -1)  # (Q, N - 1)
        hits = labels[order] == labels[query][:, None]
        positives = hits.sum(1)
        counted = positives > 0
        average = (hits.cumsum(1) / places * hits).sum(1) / positives  # (Q,)
        precision += float(average[counted].sum())
        queries += int(counted.sum())
        first += torch.bincount(hits[counted].int().argmax(1), minlength=count - 1)
    if not queries:
        return Ranking(float("nan"), torch.full((max(count - 1, 0),), torch.nan, dtype=torch.float64), 0)
    return Ranking(precision / queries, (first.cumsum(0).double() / queries).cpu(), queries)


class Retrieval(Task):
    """A network that embeds images as (B, D), trained by a loss of (embeddings, labels).

    A loss that mines keeps in ``latest`` how many ``triplets`` its last value is of and which share is ``active``;
    both are training metrics: ``train/triplets`` of a batch, ``train/active``.
    """

    metrics: ClassVar = (
        Metric("map", percent=True, label="mean average precision"),
        *(Metric(f"recall{k}", percent=True, label=f"recall@{k}") for k in RECALLS),
    )

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        if Mix.model_validate(arguments["mix"]).target:
            raise UserError(
                f"mix={arguments['mix']['name']}: mixes labels, of which retrieval needs one each; mix=none"
            )
        if self.loss is None:
            raise UserError("loss=task: retrieval has none of its own; use one of embeddings, as loss=triplet")
        self.seen: list[tuple[Tensor, Tensor]] = []  # embeddings and labels of the pass that is under way
        self.last: tuple[Tensor, Tensor, Ranking] | None = None  # of the last pass, over all ranks

    def make_network(self, options: dict[str, Any]) -> nn.Module:
        """See ``build_network``."""
        return self.build_network(in_chans=self.info["in_chans"], **options)

    def build_network(self, network: str, in_chans: int, embedding: int | None = None, **options: Any) -> nn.Module:
        """A network from timm's registry, whose ``num_classes`` is the size of the embedding."""
        importlib.import_module(f"paperzoo.papers.{self.hparams['model']['name']}")  # it registers its networks
        return timm.create_model(network, num_classes=embedding, in_chans=in_chans, **options)

    def forward(self, images: Tensor) -> Tensor:
        """Embeddings (B, D) of images (B, C, H, W)."""
        with explained(len(images), images.shape[2:]):
            return self.network(images.contiguous(memory_format=self.memory_format))

    def example_inputs(self, data: Any) -> tuple[Any, ...]:
        """One image of zeros."""
        info = self.info
        return (torch.zeros(1, info["in_chans"], info["image_size"], info["image_size"]),)

    # training

    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The chosen loss of the batch's embeddings."""
        if batch.weights is not None:
            raise UserError("weighted samples: a loss of pairs or triplets has no loss by sample")
        assert self.loss is not None
        loss = self.loss(self(batch.inputs), batch.targets)
        latest = getattr(self.loss, "latest", None)
        if latest is not None:
            triplets = latest.triplets
            active = (latest.active.double() * triplets).round().long()
            self.running.count(torch.stack([triplets, active, torch.ones_like(triplets)]))
        return {"loss": loss}

    def make_running(self) -> Running:
        """The training metrics."""
        return RunningTriplets(self.hparams["window"], self.device, places=3)

    # evaluation

    def on_validation_epoch_start(self) -> None:
        """Begin with nothing seen."""
        super().on_validation_epoch_start()
        self.seen = []

    def evaluate(self, batch: Batch) -> None:
        """Keep the batch's embeddings."""
        self.seen.append((self(batch.inputs).float().cpu(), batch.targets.cpu()))

    def compute(self, split: str) -> dict[str, float]:
        """Mean average precision and recalls over all ranks; ranks hold consecutive parts of the split.

        A loss by batches of the split's order would say nothing, so there is none.
        """
        seen = [pair for part in gather(self.seen) for pair in part]
        self.seen = []
        embeddings, labels = (torch.cat(parts) for parts in zip(*seen, strict=True))
        found = ranking(embeddings.to(self.device), labels.to(self.device))
        self.last = (embeddings, labels, found)
        return {"map": found.map} | {f"recall{k}": recall(found.cmc, k) for k in RECALLS}

    def figures(self, data: Any) -> Iterable[tuple[str, Figure]]:
        """The embedding in its two main directions, and recall over k."""
        assert self.last is not None
        embeddings, labels, found = self.last
        step = -(-len(labels) // DRAWN)
        points, share = principal(embeddings[::step])
        yield "embedding", pictures.embedding(points, labels[::step], self.info["class_names"], share)
        yield "recall", pictures.recall(found.cmc[:50])


def recall(cmc: Tensor, k: int) -> float:
    """Recall@k of a cmc (N - 1,); of a gallery of nothing NaN."""
    return float(cmc[min(k, len(cmc)) - 1]) if len(cmc) else math.nan


def principal(x: Tensor) -> tuple[Tensor, float]:
    """The coordinates (N, 2) of embeddings (N, D) along their two main directions, and the variance's share in these.

    A direction's sign is such that its largest component is positive.
    """
    x = x.double()
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh(x.T @ x)  # ascending
    top = vectors[:, -2:].flip(1)  # (D, 2), or (D, 1) of D = 1
    largest = top.gather(0, top.abs().argmax(0, keepdim=True))
    points = x @ (top * torch.where(largest < 0, -1.0, 1.0))
    if points.shape[1] < 2:
        points = torch.cat([points, torch.zeros_like(points)], dim=1)
    total = float(values.clamp(min=0).sum())
    return points, float(values[-2:].clamp(min=0).sum()) / total if total else 1.0


class RunningTriplets(Running):
    """Triplets of a batch on average, and the share of all that was active: three numbers a batch."""

    def scores(self, sums: list[float], units: float) -> dict[str, float]:
        """Of triplets, active ones and batches; none where the loss says nothing of them."""
        triplets, active, batches = sums
        return {"triplets": triplets / batches, "active": active / max(triplets, 1.0)} if batches else {}
