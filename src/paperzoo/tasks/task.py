"""What every module shares, whatever it learns: a network, its losses, its optimiser, its metrics, its exact state.

A task says what the losses and the metrics are; a paper's module says how its network is built. Nothing here knows
of images, classes or accuracies.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import pytorch_lightning as L
import torch
from matplotlib.figure import Figure
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torchmetrics import MeanMetric

from paperzoo.config import build
from paperzoo.config.building import locate
from paperzoo.config.schema import Loss, Norm, Optimizer, Scheduler
from paperzoo.data.interface import Batch
from paperzoo.distributed import buffers_from_rank_zero, gather, ranks, weight_of_rank
from paperzoo.metric import Metric
from paperzoo.norms import convert
from paperzoo.tasks import optimizers
from paperzoo.tasks.running import Running

NOT_OPTIONS = ("name", "_target_", "checkpoint", "freeze")  # keys of the model group that are no options of the network


class Place(NamedTuple):
    """Where a run's own files and rows go; callbacks of papers write there."""

    folder: Path | None = None  # None on other ranks than the first
    tell: Any = None  # (values, step) -> None: W&B's, or None


class Task(L.LightningModule):
    """A network that is trained on losses and judged by metrics.

    Every argument is plain data, so that a checkpoint holds plain data and loads with ``weights_only=True``.

    Args:
        model: ``network`` and the paper's options (``conf/model/<paper>.yaml``).
        info: what the data says of itself (``RunData.info``).
        loss, optimizer, scheduler, mix, norm: the chosen groups, as in ``conf/``.
        channels_last: memory format of images and kernels.
        window: steps between two readings of the training metrics.
    """

    metrics: ClassVar[tuple[Metric, ...]]  # the first chooses the best weights and is the headline
    unit: ClassVar[str] = "image"  # what throughput counts

    def __init__(
        self,
        model: dict[str, Any],
        info: dict[str, Any],
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
        self.info = info
        self.network: Any = self.make_network({key: value for key, value in model.items() if key not in NOT_OPTIONS})
        swap = Norm.model_validate(norm)
        if swap.target:
            options = {key: value for key, value in swap.arguments().items() if value is not None}
            self.network = convert(self.network, locate(swap.target), **options)
        self._rank_buffers = _rank_buffers(self.network)
        self._ddp_params_and_buffers_to_ignore = [f"network.{name}" for name in self._rank_buffers]
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.network.to(memory_format=self.memory_format)
        chosen = Loss.model_validate(loss)
        self.loss: Any = build(chosen) if chosen.target else None
        check = getattr(self.loss, "check", None)  # whether it goes with the data
        if check is not None:
            check(info)
        self.mean_losses = MeanMetric(nan_strategy="disable")  # else NaNs would be left out of the mean
        self.results: dict[str, dict[str, float]] = {}  # of the last pass over each split
        self.running: Any = None  # the training metrics (Running), while it trains
        self.place = Place()
        self.changes: dict[str, dict[str, Any]] = {}  # of groups, in the stage that is under way
        self.outcomes: list[Any] = []  # what the stages before came to
        self.frozen: list[nn.Module] = []  # parts of the network that are not trained
        self.new_head: str | None = None  # what was drawn again, the weights being of other classes
        self._callbacks: list[L.Callback] | None = None
        self._running_state: dict[str, Any] | None = None  # of the checkpoint that this run resumes from
        self._buffer_state: dict[str, Tensor] = {}  # likewise

    # what a task says

    @abstractmethod
    def make_network(self, options: dict[str, Any]) -> nn.Module:
        """The network, from plain options and ``self.info``."""

    @abstractmethod
    def losses(self, batch: Batch) -> Mapping[str, Tensor]:
        """The losses of a training batch, means over its samples; their sum is trained on, each is logged.

        Where ``batch.weights`` is there, the mean is weighted: ``sum(w * loss) / B``. What the training metrics need
        is counted by ``self.running.count``.
        """

    @abstractmethod
    def evaluate(self, batch: Batch) -> None:
        """Add a batch to the metrics of a split."""

    @abstractmethod
    def compute(self, split: str) -> dict[str, float]:
        """The metrics of a split, over all ranks, and reset them. ``loss`` is the mean of ``self.mean_losses``."""

    def example_inputs(self, data: Any) -> tuple[Any, ...] | None:
        """What the network is called with to count its cost on one sample; None: it is not counted."""
        return None

    def figures(self, data: Any) -> Iterable[tuple[str, Figure]]:
        """Pictures of the last pass over the test split, by file name."""
        return ()

    def make_running(self) -> Running:
        """The training metrics."""
        return Running(self.hparams["window"], self.device)

    def units(self, batch: Batch) -> int:
        """How many units a batch has: what its loss is a mean of in the epoch's row."""
        return len(batch.inputs)

    def size_of(self, batch: Batch) -> int | None:
        """What this rank's loss is a mean of; None where it is as many on every rank."""
        return None if self.trainer.datamodule.equal_batches else self.units(batch)  # type: ignore[attr-defined]

    @property
    def has_rank_buffers(self) -> bool:
        """Whether the network keeps statistics of each rank's own."""
        return bool(self._rank_buffers)

    # training

    def train(self, mode: bool = True) -> Self:
        """As of any module; what is frozen stays in evaluation mode, so that its statistics do not change."""
        super().train(mode)
        for module in getattr(self, "frozen", ()):
            module.eval()
        return self

    @classmethod
    def headline(cls) -> Metric:
        """The metric that counts."""
        return cls.metrics[0]

    def configure_callbacks(self) -> list[L.Callback]:
        """Those that layers bring (a class's ``training_callback``) and a paper's ``own_callbacks``.

        Made once: Lightning asks again for every pass, and would lose what they hold.
        """
        if self._callbacks is None:
            kinds = {getattr(type(module), "training_callback", None) for module in self.network.modules()}
            self._callbacks = [*(kind() for kind in kinds if kind is not None), *self.own_callbacks()]
        return self._callbacks

    def own_callbacks(self) -> list[L.Callback]:
        """What a paper's module writes down as it goes."""
        return []

    def on_train_start(self) -> None:
        """Make the running metrics, and go on with a resumed run's."""
        self.running = self.make_running()
        if self._running_state is not None:
            self.running.load_state_dict(self._running_state)
        for name, value in self._buffer_state.items():
            self.network.get_buffer(name).copy_(value)
        self._running_state, self._buffer_state = None, {}
        self._set_rates()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """The batch's loss."""
        losses = self.losses(batch)
        first, *others = losses.values()
        total = sum(others, first)
        assert self.running is not None
        self.running.update(total, losses, self.units(batch))
        if ranks() > 1 and (size := self.size_of(batch)) is not None:
            total = total * weight_of_rank(size, self.device)
        return total

    def configure_optimizers(self) -> Any:
        """The chosen optimiser, and the schedule as a closed form of the step."""
        choice = Optimizer.model_validate(self._chosen("optimizer"))
        optimizer = optimizers.make(self.network, choice, precision=self.trainer.precision)
        total = int(self.trainer.estimated_stepping_batches)
        epochs = self.trainer.max_epochs or 1
        steps_per_epoch = -(-self.trainer.num_training_batches // self.trainer.accumulate_grad_batches)
        factor = build(
            Scheduler.model_validate(self._chosen("scheduler")),
            total_steps=min(total, steps_per_epoch * epochs),
            steps_per_epoch=steps_per_epoch,
        )
        self.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.schedule, "interval": "step"}}

    def _chosen(self, group: str) -> dict[str, Any]:
        """A group as the run has it, or as the stage changes it."""
        return {**self.hparams[group], **self.changes.get(group, {})}

    # evaluation

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the metrics."""
        self.evaluate(batch)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Add a batch to the metrics."""
        self.evaluate(batch)

    def on_validation_epoch_start(self) -> None:
        """All ranks evaluate with rank 0's running statistics, which are those that a checkpoint holds."""
        self.mean_losses.set_dtype(torch.float64)  # here, since moving the module to its device makes it float32
        buffers_from_rank_zero(self.network, but=self._rank_buffers)

    def on_test_epoch_start(self) -> None:
        """Likewise."""
        self.on_validation_epoch_start()

    def on_validation_epoch_end(self) -> None:
        """Compute the metrics of the validation split, and tell a schedule that waits for them."""
        self.results["val"] = self.compute("val")
        if self.trainer.state.fn == TrainerFn.FITTING:  # "training" is not what the trainer does while it validates
            self._observe(self.results["val"].get(self.headline().name))

    def _observe(self, value: float | None) -> None:
        """Tell the schedule, once, whatever the number of parameter groups; what it says holds from the next step."""
        schedule = getattr(self, "schedule", None)
        factor: Any = schedule.lr_lambdas[0] if schedule is not None else None
        if schedule is None or not hasattr(factor, "observe"):
            return
        factor.observe(value, self.headline().goal)
        self._set_rates()

    def _set_rates(self) -> None:
        """The rates of the next step by this run's schedule: a longer run goes on with a shorter one's state."""
        factor = self.schedule.lr_lambdas[0]
        for group, base in zip(self.schedule.optimizer.param_groups, self.schedule.base_lrs, strict=True):
            group["lr"] = base * factor(self.schedule.last_epoch)

    def on_test_epoch_end(self) -> None:
        """Compute the metrics of the test split."""
        self.results["test"] = self.compute("test")

    # exact state

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the epoch has summed so far, on every rank."""
        checkpoint["running"] = gather(self.running.state_dict()) if self.running else None
        own = {name: self.network.get_buffer(name).cpu().clone() for name in self._rank_buffers}
        checkpoint["rank_buffers"] = gather(own) if own else None
        checkpoint["outcomes"] = self.outcomes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Bring it back; the device is known only when training starts."""
        saved = checkpoint.get("running")
        self._running_state = saved[self.global_rank] if saved else None
        buffers = checkpoint.get("rank_buffers")
        self._buffer_state = buffers[self.global_rank] if buffers else {}

    def forget_state(self) -> None:
        """What a fit that had nothing left to do did not bring back is not for the next one."""
        self._running_state, self._buffer_state = None, {}


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode, and every part's own mode again after it."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


def _rank_buffers(network: nn.Module) -> list[str]:
    """Names of the buffers that each rank has of its own (a layer's ``rank_buffers``)."""
    return [
        f"{place}.{name}" if place else name
        for place, module in network.named_modules()
        for name in getattr(module, "rank_buffers", ())
    ]
