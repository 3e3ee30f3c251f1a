"""Image classification: what every classifying paper's module shares."""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar

import pytorch_lightning as L
import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassCalibrationError,
    MulticlassConfusionMatrix,
)

from paperzoo import pictures
from paperzoo.config import build
from paperzoo.config.building import locate
from paperzoo.config.schema import Loss, Mix, Norm, Optimizer, Scheduler
from paperzoo.norms import convert
from paperzoo.norms.single import explained
from paperzoo.tasks import optimizers
from paperzoo.tasks.distributed import buffers_from_rank_zero, gather, ranks, weight_of_rank
from paperzoo.tasks.running import Running

Batch = tuple[Tensor, Tensor]  # images (B, C, H, W) normalised, labels (B,)


class Classification(L.LightningModule):
    """A network, its loss, optimiser and schedule, and the metrics of classification.

    A paper's module says only how its network is built (``build_network``). Every argument is plain data, so that
    a checkpoint holds plain data and loads with ``weights_only=True``.

    Args:
        model: ``network`` and the paper's options (``conf/model/<paper>.yaml``).
        num_classes: K.
        in_chans: channels of an image.
        loss, optimizer, scheduler, mix, norm: the chosen groups, as in ``conf/``.
        channels_last: memory format of images and kernels.
        window: steps between two readings of the training metrics.
    """

    headline: ClassVar[str] = "top1"  # the metric that chooses the best weights and is shown

    def __init__(
        self,
        model: dict[str, Any],
        num_classes: int,
        in_chans: int,
        loss: dict[str, Any],
        optimizer: dict[str, Any],
        scheduler: dict[str, Any],
        mix: dict[str, Any],
        norm: dict[str, Any],
        channels_last: bool = False,
        window: int = 20,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        options = {key: value for key, value in model.items() if key not in ("name", "_target_", "checkpoint")}
        self.network = self.build_network(num_classes=num_classes, in_chans=in_chans, **options)
        swap = Norm.model_validate(norm)
        if swap.target:
            options = {key: value for key, value in swap.arguments().items() if value is not None}
            self.network = convert(self.network, locate(swap.target), **options)
        self._rank_buffers = _rank_buffers(self.network)
        self._ddp_params_and_buffers_to_ignore = [f"network.{name}" for name in self._rank_buffers]
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network.to(memory_format=self.memory_format)
        self.loss = build(Loss.model_validate(loss))
        chosen = Mix.model_validate(mix)
        self.mix = build(chosen, num_classes=num_classes) if chosen.target else None
        self.losses = MeanMetric(nan_strategy="disable")  # else NaNs would be left out of the mean
        self.scores = self.make_scores(num_classes)
        self.results: dict[str, dict[str, float]] = {}  # of the last pass over each split
        self.confusion: Tensor | None = None  # (K, K) of the last pass: rows are the truth
        self.running: Running | None = None
        self._running_state: dict[str, Any] | None = None  # of the checkpoint that this run resumes from
        self._buffer_state: dict[str, Tensor] = {}  # likewise

    @abstractmethod
    def build_network(self, network: str, num_classes: int, in_chans: int, **options: Any) -> nn.Module:
        """The paper's network from plain data."""

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, C, H, W)."""
        with explained(len(images), images.shape[2:]):
            return self.network(images.contiguous(memory_format=self.memory_format))

    # training

    def on_train_start(self) -> None:
        """Make the running metrics, and go on with a resumed run's."""
        self.running = self.make_running()
        if self._running_state is not None:
            self.running.load_state_dict(self._running_state)
        for name, value in self._buffer_state.items():
            self.network.get_buffer(name).copy_(value)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The batch's mean loss."""
        images, labels = batch
        targets = labels
        if self.mix is not None:
            images, targets = self.mix(images, labels)  # targets (B, K)
        logits, loss = self.logits_and_loss(images, targets)
        assert self.running is not None
        self.running.update(loss, logits, labels)
        if ranks() > 1 and (size := self.size_of_batch(labels)) is not None:
            loss = loss * weight_of_rank(size, self.device)
        return loss

    def make_running(self) -> Running:
        """The training metrics."""
        return Running(self.hparams["window"], self.hparams["num_classes"], self.device)

    def size_of_batch(self, labels: Tensor) -> int | None:
        """What this rank's loss is a mean of; None where it is as many on every rank."""
        return None if self.trainer.datamodule.equal_batches else len(labels)  # type: ignore[attr-defined]

    def logits_and_loss(self, images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (B, K), and the batch's mean loss; a paper whose network has more heads adds their losses here."""
        logits = self(images)
        return logits, self.mean_loss(logits, targets)

    def mean_loss(self, logits: Tensor, targets: Tensor) -> Tensor:
        """The chosen loss; of no images zero."""
        return self.loss(logits, targets) if len(targets) else logits.sum()

    def configure_optimizers(self) -> Any:
        """The chosen optimiser, and the schedule as a closed form of the step."""
        optimizer = optimizers.make(
            self.network, Optimizer.model_validate(self.hparams["optimizer"]), precision=self.trainer.precision
        )
        total = int(self.trainer.estimated_stepping_batches)
        epochs = self.trainer.max_epochs or 1
        steps_per_epoch = -(-self.trainer.num_training_batches // self.trainer.accumulate_grad_batches)
        factor = build(
            Scheduler.model_validate(self.hparams["scheduler"]),
            total_steps=min(total, steps_per_epoch * epochs),
            steps_per_epoch=steps_per_epoch,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    # evaluation

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the metrics."""
        self._evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the metrics."""
        self._evaluate(batch)

    def on_validation_epoch_start(self) -> None:
        """All ranks evaluate with rank 0's running statistics, which are those that a checkpoint holds."""
        self.losses.set_dtype(torch.float64)  # here, since moving the module to its device makes it float32
        buffers_from_rank_zero(self.network, but=self._rank_buffers)

    def on_test_epoch_start(self) -> None:
        """Likewise."""
        self.on_validation_epoch_start()

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics of the validation split."""
        self._finish("val")

    def on_test_epoch_end(self) -> None:
        """Compute the metrics of the test split."""
        self._finish("test")

    def _evaluate(self, batch: Batch) -> None:
        images, labels = batch
        logits = self(images).float()
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")  # comparable across training losses
        self.losses.update(losses.double())
        self.scores.update(logits.softmax(dim=1), labels)

    def _finish(self, split: str) -> None:
        values = self.scores.compute()
        self.confusion = values.pop("confusion").cpu()
        self.results[split] = {"loss": float(self.losses.compute())} | self.metrics_of(values)
        self.losses.reset()
        self.scores.reset()

    def make_scores(self, num_classes: int) -> MetricCollection:
        """The metrics of a split, a ``confusion`` matrix among them."""
        return _scores(num_classes)

    def metrics_of(self, values: dict[str, Tensor]) -> dict[str, float]:
        """What is recorded of the computed metrics; ``confusion`` is there, too."""
        return {name: float(value) for name, value in values.items()}

    def draw(self, data: Any, folder: Path, title: str) -> None:
        """The pictures of the last pass over the test split."""
        assert self.confusion is not None
        pictures.confusion_matrix(self.confusion, data.class_names, title, folder / "confusion_matrix.png")

    # exact state

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the epoch has summed so far, on every rank."""
        checkpoint["running"] = gather(self.running.state_dict()) if self.running else None
        own = {name: self.network.get_buffer(name).cpu().clone() for name in self._rank_buffers}
        checkpoint["rank_buffers"] = gather(own) if own else None

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Bring it back; the device is known only when training starts."""
        saved = checkpoint.get("running")
        self._running_state = saved[self.global_rank] if saved else None
        buffers = checkpoint.get("rank_buffers")
        self._buffer_state = buffers[self.global_rank] if buffers else {}


def _rank_buffers(network: nn.Module) -> list[str]:
    """Names of the buffers that each rank has of its own (a layer's ``rank_buffers``)."""
    return [
        f"{place}.{name}" if place else name
        for place, module in network.named_modules()
        for name in getattr(module, "rank_buffers", ())
    ]


def _scores(num_classes: int) -> MetricCollection:
    """Top-1, top-5 (with more than five classes), expected calibration error (15 bins) and confusion matrix."""
    scores: dict[str, Any] = {"top1": MulticlassAccuracy(num_classes, average="micro")}
    if num_classes > 5:
        scores["top5"] = MulticlassAccuracy(num_classes, average="micro", top_k=5)
    scores["ece"] = MulticlassCalibrationError(num_classes, n_bins=15)
    scores["confusion"] = MulticlassConfusionMatrix(num_classes)
    return MetricCollection(scores)
