"""The typed configuration of a run.

Hydra composes ``conf/``; these classes say which keys, types and ranges are allowed. They import no torch, so
that a mistake is reported at once. A paper's own options are typed in its card (``card.yaml``, ``options``).
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Node(BaseModel):
    """A part of the configuration: unknown keys are refused, values are not coerced across types."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False, strict=True)


class Choice(Node):
    """What a config group selects: ``name`` is the word on the command line, ``target`` what it builds."""

    name: str
    target: str = Field(alias="_target_")

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that the target takes."""
        return self.model_dump(exclude={"name", "target"})


class Model(Choice):
    """A paper's module. Options beyond these are the paper's own, typed in its card."""

    model_config = ConfigDict(extra="allow")

    network: str
    checkpoint: str | None = None  # officially published weights, a file


class Augment(Node):
    """Random changes of a training image, drawn anew for every image in every epoch."""

    crop_padding: Count = 0  # pad by so many pixels, then crop at a random place
    flip: Fraction = 0.0  # probability of a horizontal flip
    resized_crop: bool = False  # RandomResizedCrop(0.08, 1), the ImageNet recipe; needs image_size


class Data(Choice):
    """A data set of images and how batches are made of it."""

    task: Literal["classification", "segmentation"] = "classification"  # a label for an image, or for every pixel
    batch_size: Positive  # per rank
    eval_batch_size: Positive
    image_size: Positive | None = None  # resize to this many pixels; None keeps the data set's own size
    in_chans: Literal[1, 3] | None = None  # None keeps the data set's own
    validation: Annotated[float, Field(gt=0)]  # held out of train: a number of images, or a fraction below 1
    test: Annotated[float, Field(gt=0)] | None = None  # likewise, where the source has no test split of its own
    split_seed: Count  # of the split alone: part of the data's fingerprint, not of the run's randomness
    limit_train: Positive | None = None  # train on a stratified subset of so many images
    augment: Augment
    mean: list[float] | None = None  # per channel, of pixels in [0, 1]; None measures the training split
    std: list[Annotated[float, Field(gt=0)]] | None = None
    drop_last: bool = True  # leave out the last, smaller batch of an epoch
    in_memory: bool | None = None  # decode once to uint8; None decides by size
    workers: Count = 0  # processes that decode where data is not in memory
    on_error: Literal["raise", "skip"] = "raise"  # a corrupt image: stop, or count it and go on
    # Hugging Face data sets
    path: str | None = None  # hub name or a folder of Parquet files; None looks in paths.data_dir, then on the hub
    hub: str | None = None
    image_column: str | None = None
    label_column: str | None = None
    train_split: str = "train"
    test_split: str | None = None
    streaming: bool = False
    # image folders
    root: str | None = None  # holds train/ and optionally val/ and test/, or class folders directly


class Norm(Choice):
    """Which normalisation a network uses; ``paper`` keeps the paper's own."""

    target: str | None = Field(default=None, alias="_target_")  # type: ignore[assignment]
    convolution: str | None = None  # a class that replaces the convolutions, too
    eps: Annotated[float, Field(gt=0)] | None = None  # None keeps that of the layer that is replaced
    momentum: Fraction | None = None
    groups: Positive | None = None  # group
    using_moving_average: bool | None = None  # switchable, and the two below
    using_bn: bool | None = None
    unbiased: bool | None = None
    B: Positive | None = None  # mabn: images of a batch on a rank, and the three below
    real_B: Positive | None = None  # noqa: N815 - the paper's name
    warmup_iters: Count | None = None


class Mix(Choice):
    """Mixing of images and labels within a batch."""

    target: str | None = Field(default=None, alias="_target_")  # type: ignore[assignment]
    alpha: Annotated[float, Field(gt=0)] | None = None  # of the Beta(alpha, alpha) that lambda is drawn from


class Loss(Choice):
    """The training loss."""

    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Optimizer(Choice):
    """A torch optimiser; ``decay_norms_and_biases`` false keeps weight decay to matrices and kernels."""

    lr: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)]
    decay_norms_and_biases: bool = True
    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    nesterov: bool | None = None
    betas: Annotated[list[Annotated[float, Field(ge=0, lt=1)]], Field(min_length=2, max_length=2)] | None = None
    eps: Annotated[float, Field(gt=0)] | None = None

    def arguments(self) -> dict[str, Any]:
        """What the optimiser takes; which parameters decay is decided by their groups."""
        return self.model_dump(exclude={"name", "target", "decay_norms_and_biases"})


class Scheduler(Choice):
    """Learning rate over the steps of training, as a factor of ``optimizer.lr``."""

    warmup_epochs: Annotated[float, Field(ge=0)] = 0.0  # linear from warmup_start
    warmup_start: Fraction = 0.0
    final: Fraction | None = None  # cosine: the factor at the end
    milestones: list[Annotated[float, Field(gt=0)]] | None = None  # step: epochs
    gamma: Annotated[float, Field(gt=0, le=1)] | None = None  # step: factor at each milestone
    power: Annotated[float, Field(gt=0)] | None = None  # poly


class Trainer(Node):
    """Where and for how long a run trains."""

    name: str
    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Positive
    num_nodes: Positive = 1
    strategy: Literal["auto", "ddp"]
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


class Logger(Choice):
    """Where metrics go besides the run folder's own CSV."""

    target: str | None = Field(default=None, alias="_target_")  # type: ignore[assignment]
    mode: Literal["auto", "offline", "online", "disabled"] | None = None
    project: str | None = None
    entity: str | None = None


class Checkpoint(Node):
    """How often the exact state is saved, so that an interrupted run loses at most this much."""

    every_steps: Positive | None = None
    every_seconds: Annotated[float, Field(gt=0)] | None = None


class Paths(Node):
    """Folders; outside the run's identity."""

    data_dir: str
    runs_dir: str


class Config(Node):
    """All that a training run is told."""

    model: Model
    data: Data
    norm: Norm
    mix: Mix
    loss: Loss
    optimizer: Optimizer
    scheduler: Scheduler
    trainer: Trainer
    logger: Logger
    checkpoint: Checkpoint
    paths: Paths
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    deterministic: bool
    tags: list[str] = []
    resume: str | None = None  # auto, or a run id
    repeat: bool = True  # false: a finished run of the same identity is not trained again
    dry_run: bool = False  # print what each rank would do, and start nothing
    debug: bool = False


class Evaluation(Node):
    """What ``evaluate.py`` is told."""

    run: str  # an id, a unique prefix, or a run folder
    weights: Literal["last", "best"]
    split: Literal["test", "val"]
    norm_statistics: Literal["moving_average", "batch_average"] = "moving_average"
    norm_batches: Positive = 100  # batch_average: training batches to average over, at most an epoch's
    accelerator: Literal["auto", "cpu", "gpu"]
    paths: Paths
    debug: bool = False
