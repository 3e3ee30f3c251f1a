"""The typed configuration of a run.

Hydra composes ``conf/``; these classes say which keys, types and ranges are allowed. They import no torch, so
that a mistake is reported at once. Keys that only some choices have are typed where these are implemented.
"""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Node(BaseModel):
    """A part of the configuration: unknown keys are refused, values are not coerced across types."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False, strict=True)


class Choice(Node):
    """What a config group selects: ``name`` is the word on the command line, ``target`` what it builds.

    The keys beyond these are the target's own: they are typed where it is implemented (``config/options.py``).
    """

    model_config = ConfigDict(extra="allow")

    tasks: ClassVar[tuple[str, ...] | None] = None  # of the data that it goes with; None: any
    why: ClassVar[str | None] = None  # not with others, after "it"
    labels: ClassVar[bool] = False  # whether it needs one class for each training sample

    name: str
    target: str = Field(alias="_target_")

    def needs_labels(self) -> bool:
        """``labels``, or what its options make of it."""
        return self.labels

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the target takes."""
        return self.model_dump(exclude={"name", "target"})

    def check(self, config: Any) -> None:
        """Check what depends on other parts of the whole configuration; the classes of some targets do.

        Raises:
            UserError: a combination that cannot work.
        """


class Model(Choice):
    """A paper's module. Options beyond these are the paper's own, typed in its card."""

    network: str
    checkpoint: str | None = None  # weights to begin with: a file of published ones, or run:<id>
    freeze: list[str] | None = None  # names, with * and ?, of modules and parameters that are not trained


class Data(Choice):
    """A data set and how batches are made of it; a class beside the data module has the keys of its kind."""

    task: str = "classification"  # what can be learned from it: a model's card says which tasks it does
    batch_size: Positive  # per rank
    eval_batch_size: Positive

    @property
    def labelled(self) -> bool:
        """Whether each training sample has one class."""
        return True


class Sampler(Choice):
    """In which order samples come in training."""

    target: str = Field(default="paperzoo.data.samplers.shuffled", alias="_target_")


class Norm(Choice):
    """Which normalisation a network uses; ``paper`` keeps the paper's own."""

    target: str | None = Field(default=None, alias="_target_")  # type: ignore[assignment]


class Mix(Choice):
    """Mixing of samples and labels within a batch."""

    target: str | None = Field(default=None, alias="_target_")  # type: ignore[assignment]


class Loss(Choice):
    """The training loss; ``task``: the task's own."""

    target: str | None = Field(default=None, alias="_target_")  # type: ignore[assignment]


OF_GROUPS = ("decay_norms_and_biases", "layer_decay", "lr_factors")  # keys that make an optimiser's groups


class Optimizer(Choice):
    """A torch optimiser; ``decay_norms_and_biases`` false keeps weight decay to matrices and kernels."""

    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    decay_norms_and_biases: bool = True
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = None  # factor of the rate from a layer to the one below
    lr_factors: dict[str, Annotated[float, Field(ge=0)]] | None = None  # of the rate, by patterns of parameters' names

    def arguments(self) -> dict[str, Any]:
        """What the optimiser takes; which parameters decay, and at which rate, is decided by their groups."""
        return {name: value for name, value in super().arguments().items() if name not in OF_GROUPS}


class Scheduler(Choice):
    """Learning rate over the steps of training, as a factor of ``optimizer.lr``."""

    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0  # linear from warmup_start
    warmup_start: Fraction = 0.0


class Procedure(Choice):
    """What a run does, stage by stage."""

    target: str = Field(default="paperzoo.procedures.fit.Fit", alias="_target_")

    @property
    def is_fit(self) -> bool:
        """One training, without stages of its own."""
        return self.target == Procedure.model_fields["target"].default


class Average(Choice):
    """Which average of the weights is validated and kept; none unless one is chosen."""


class Stopping(Choice):
    """When training ends before its last epoch; never unless it is chosen."""


def _is_part(value: Any) -> bool:
    """A number of things, at least 1, or a share of them."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return value >= 1 if isinstance(value, int) else 0 < value <= 1


def _limit(value: Any) -> Any:
    if value is not None and not _is_part(value):
        raise PydanticCustomError("limit", "a number of batches, at least 1, or a share of them such as 0.1")
    return value


Limit = Annotated[int | float | None, BeforeValidator(_limit)]  # of batches: 10, or a share of them


def _interval(value: Any) -> Any:
    if value is not None and not _is_part(value):
        raise PydanticCustomError("interval", "a number of training batches, at least 1, or a share of an epoch: 0.25")
    return None if isinstance(value, float) and value == 1 else value  # 1.0 is the default, and of its identity


Interval = Annotated[int | float | None, BeforeValidator(_interval)]  # of training batches, or a share of an epoch's


class Trainer(Node):
    """Where and for how long a run trains."""

    name: str
    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Positive
    num_nodes: Positive = 1
    strategy: Literal["auto", "ddp", "fsdp"]
    backend: Literal["gloo", "nccl"] | None = None
    precision: Literal["32-true", "16-mixed", "bf16-mixed", "64-true"] = "32-true"
    max_epochs: Positive
    max_steps: Positive | None = None
    accumulate_grad_batches: Positive = 1
    gradient_clip_val: Annotated[float, Field(gt=0)] | None = None
    channels_last: bool | None = None  # None: where it is faster (measured, see benchmarks/channels_last.py)
    compile: bool = False
    sync_batchnorm: bool = False  # batch normalisation over all ranks, as norm=sync_batch
    threads: Positive | None = None  # of each process; None leaves torch's own choice
    log_every_n_steps: Positive = 20
    check_val_every_n_epoch: Positive | None = None  # None: after each
    val_check_interval: Interval = None  # between validations; None: at the end of an epoch alone
    limit_train_batches: Limit = None  # of each epoch
    limit_val_batches: Limit = None
    limit_test_batches: Limit = None
    fast_dev_run: bool | None = None  # one batch of each split, one epoch: does everything work?
    profiler: Literal["simple", "advanced", "pytorch"] | None = None  # Lightning's; its table is profile.txt
    summary: Positive | None = None  # show a table of layers, so many levels deep

    @model_validator(mode="before")
    @classmethod
    def _one_batch(cls, values: Any) -> Any:
        """What ``fast_dev_run`` stands for."""
        if isinstance(values, dict) and values.get("fast_dev_run") is True:
            limits = {f"limit_{split}_batches": 1 for split in ("train", "val", "test")}
            return {**values, "max_epochs": 1, "val_check_interval": None, **limits}
        return values

    def limits(self) -> dict[str, int | float]:
        """The splits of which only a part is used, with how much: batches, or a share of them."""
        given = {split: getattr(self, f"limit_{split}_batches") for split in ("train", "val", "test")}
        return {split: limit for split, limit in given.items() if (limit is not None and limit != 1.0) or limit == 1}


class Logger(Choice):
    """Where metrics go besides the run folder's own CSV."""

    target: str | None = Field(default=None, alias="_target_")  # type: ignore[assignment]


WEIGHTS = re.compile(r"last|best|step_[1-9][0-9]*")  # of a run: the names of its checkpoints


def _weights(value: Any) -> Any:
    if not (isinstance(value, str) and WEIGHTS.fullmatch(value)):
        raise PydanticCustomError("weights", "last, best, or step_<n> of a run with checkpoint.top_k or every_n_epochs")
    return value


class Checkpoint(Node):
    """How often the exact state is saved, so that an interrupted run loses at most this much; and what else is kept."""

    every_steps: Positive | None = None
    every_seconds: Annotated[float, Field(gt=0)] | None = None
    keep_state: bool = True  # of a finished run, so that it can be extended
    top_k: Positive | None = None  # the weights of so many of the best validations
    every_n_epochs: Positive | None = None  # those after every n-th epoch


class Paths(Node):
    """Folders; outside the run's identity."""

    data_dir: str
    runs_dir: str


class Config(Node):
    """The configuration of a training run."""

    model: Model
    data: Data
    sampler: Sampler
    norm: Norm
    mix: Mix
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler
    procedure: Procedure
    average: Average | None = None
    stopping: Stopping | None = None
    trainer: Trainer
    logger: Logger
    checkpoint: Checkpoint
    paths: Paths
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    deterministic: bool
    tags: list[str] = []
    resume: str | None = None  # auto, or a run id; of a finished run, with more epochs, it becomes extends
    extends: str | None = None  # the finished run that this one goes on with
    repeat: bool = True  # false: a finished run of the same identity is not trained again
    dry_run: bool = False  # print what each rank would do, and start nothing
    debug: bool = False
    pictures: bool = True  # learning curves and what the task has to show, in the run's folder


class Place(Node):
    """Where data that has moved lies now; None: where the record says."""

    root: str | None = None
    path: str | None = None


class Evaluation(Node):
    """The configuration of ``evaluate.py``."""

    run: str  # an id, a unique prefix, a run folder, or a file of predictions
    weights: Annotated[str, BeforeValidator(_weights)]
    split: Literal["test", "val"]
    norm_statistics: Literal["moving_average", "batch_average"] = "moving_average"
    norm_batches: Positive = 100  # batch_average: training batches to average over, at most an epoch's
    predictions: bool = False  # by sample, into the run's folder, with a table of classes
    maps: bool = False  # with predictions, of segmentation: the maps, too
    data: Place = Place()
    accelerator: Literal["auto", "cpu", "gpu"]
    paths: Paths
    debug: bool = False
