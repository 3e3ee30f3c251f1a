"""What a run asks of its data, whatever it holds: ``conf/data/*.yaml`` names a class that does this."""

from abc import abstractmethod
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytorch_lightning as L
from torch import Tensor

from paperzoo.config.building import locate
from paperzoo.config.schema import Data, Sampler
from paperzoo.data.order import Order
from paperzoo.errors import UserError


class Batch(NamedTuple):
    """What a task is given.

    ``index`` names the samples by their place in the split, so that weights, mining and pseudo-labels are possible;
    ``weights`` (B,) are theirs in the loss where a stage sets some, else None: the loss is the plain mean.
    """

    inputs: Any
    targets: Any
    index: Tensor | None = None  # type: ignore[assignment]  # not the method of tuples
    weights: Tensor | None = None


class RunData(L.LightningDataModule):
    """The splits of a run and their batches. Random numbers are functions of (seed, epoch, sample).

    After ``setup``: ``sizes`` (samples of train, val and test), ``skipped``, ``description`` (one line for people),
    ``fingerprint`` (64 hex digits of what the run sees, wherever it lies), ``info`` (plain data: what a task must know
    to build its network, such as ``num_classes``), ``equal_batches`` (whether all ranks train on batches of one size).

    Args:
        config: the data group.
        data_dir: where data sets are looked for.
        seed: of order and augmentation.
        rank, world_size: which part of a global batch this process takes.
        sampler: in which order samples come in training.
    """

    sizes: dict[str, int]
    equal_batches = True

    def __init__(
        self,
        config: Data,
        *,
        data_dir: str = "data",
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__()
        self.config: Any = config
        self.data_dir = Path(data_dir)
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.sampler = sampler or Sampler(name="shuffled")
        self.weights: Tensor | None = None  # (N,) of the training samples; a stage sets them
        self.view: Tensor | None = None  # indices of the training samples that a stage is restricted to; None: all
        self._training: Order | None = None
        self._position: dict[str, int] | None = None  # of the run that is resumed

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """Of what the run sees: 64 hex digits."""

    @property
    @abstractmethod
    def description(self) -> str:
        """One line for the summary."""

    @property
    @abstractmethod
    def info(self) -> dict[str, Any]:
        """Plain data from which a task builds its network; it stands in the record and in every checkpoint."""

    @property
    def skipped(self) -> dict[str, int]:
        """Samples left out because they are corrupt, by split."""
        return {}

    def skipped_names(self) -> dict[str, list[str]]:
        """Which they are, by split."""
        return {}

    def count_skipped(self) -> dict[str, int]:
        """``skipped`` over all ranks, which must all call it."""
        return self.skipped

    def plain_train_dataloader(self) -> Any:
        """Every training sample once over the ranks, in order and without augmentation, as a split is evaluated.

        Raises:
            UserError: this data cannot be gone through so.
        """
        raise UserError(f"data={self.config.name}: its training samples cannot be gone through as a split is evaluated")

    def order_of(self, loader: Any) -> Any:
        """Remember the order of the training loader, and go on from where a resumed run stopped."""
        if not len(loader.order):
            raise UserError(
                f"sampler={self.sampler.name}: an epoch has {loader.order.length} training samples, less than one "
                f"batch of data.batch_size={self.config.batch_size} on each of {self.world_size} rank(s); lower it"
            )
        self._training = loader.order
        if self._position is not None:
            self._training.go_to(self._position)
        return loader

    def weights_of(self, index: Tensor | None) -> Tensor | None:
        """The weights (B,) of the samples of a training batch, or None where no stage has set any."""
        if self.weights is None or index is None:
            return None
        return self.weights.to(index.device)[index]

    def state_dict(self) -> dict[str, Any]:
        """The position in the training data. Lightning's own way, stateful loaders, did not restore it (2.6.6)."""
        return {"position": self._training.position() if self._training else None}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Kept until the loader is made."""
        self._position = state_dict["position"]

    def begin_stage(self) -> None:
        """Start from the first epoch again: the position that was resumed is of the stage before."""
        self._position = None


def sequence_of(data: RunData, size: int, labels: Tensor | None) -> dict[str, Any]:
    """``sequence`` and ``length`` of an ``Order``, as the run's sampler says.

    Args:
        data: whose ``config.batch_size``, ranks, seed and sampler count.
        size: N, of the training samples.
        labels: (N,) class of each, or None.
    """
    options = {name: value for name, value in data.sampler.arguments().items() if value is not None}
    view = data.view
    if view is not None:
        size, labels = len(view), None if labels is None else labels[view]
    choose = partial(
        locate(data.sampler.target),
        size,
        labels,
        batch_size=data.config.batch_size,
        ranks=data.world_size,
        **options,
    )

    def sequence(epoch: int) -> Tensor:
        try:
            order = choose(seed=data.seed, epoch=epoch)
        except TypeError as error:
            if error.__traceback__ and error.__traceback__.tb_next is None:  # from the call, not from within it
                raise UserError(f"sampler._target_={data.sampler.target}: cannot be called as one ({error})") from None
            raise
        return order if view is None else view[order]

    return {"sequence": sequence, "length": len(sequence(0))}


def make_data(config: Any, *, rank: int = 0, ranks: int = 1) -> RunData:
    """The data that a run's configuration names, set up, as this rank sees it."""
    data: RunData = locate(config.data.target)(
        config.data,
        data_dir=config.paths.data_dir,
        seed=config.seed,
        rank=rank,
        world_size=ranks,
        sampler=config.sampler,
    )
    data.setup("fit")
    return data
