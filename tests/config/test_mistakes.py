"""A user's mistakes: each is one line that says what to write instead, exit code 2, and leaves nothing behind."""

import re
import shlex
from pathlib import Path

import pytest

from paperzoo import cards
from paperzoo.config import build, checks, dump, load_config
from paperzoo.config.schema import Choice, Optimizer
from paperzoo.errors import UserError

PAPERS = ", ".join(cards.slugs())
MODELS = f"models: {PAPERS}"
S = "model=scnet "

# The command line, and what its one line must hold.
MISTAKES = [
    # groups of which nothing is chosen until a word is given
    (S + "stoping=early", ["stoping=early: there is no such key; keys: ", "Did you mean stopping?"]),
    (S + "averge=moving", ["averge=moving: there is no such key; keys: ", "Did you mean average?"]),
    (S + "augmnt=strong", ["augmnt=strong: there is no such key; keys: ", "Did you mean augment?"]),
    ("experimet=resnext/cifar10", ["experimet=resnext/cifar10: there is no such key", "Did you mean experiment?"]),
    # words of a group
    ("", ["model must be given, e.g. model=scnet", MODELS]),
    ("model=scnett", ["model=scnett", MODELS, "Did you mean scnet?"]),
    ("model=SCNet", ["model=SCNet", MODELS, "Did you mean scnet?"]),
    ("model=", ["model=:", MODELS]),
    ("model=null", ["model=null", PAPERS]),
    ("model=[scnet,resnet]", ["model=[scnet,resnet]: must be one word", MODELS]),
    ("model=scnet,resnet", ["model=scnet,resnet", "-m"]),
    ("model.network=scnet50", ["model must be given", MODELS]),
    (S + "data=cifar", ["data=cifar:", "cifar10, cifar100, ", "Did you mean cifar10?"]),
    (S + "optimizer=adam", ["optimizer=adam", "optimizers: adamw, ", "Did you mean adamw?"]),
    (S + "scheduler=cosin", ["scheduler=cosin", "schedulers: constant, cosine, ", "Did you mean cosine?"]),
    (S + "augment=rand", ["augment=rand: there is no such augment", "Did you mean rand_augment?"]),
    (S + "augment=strong augment.erase=0.1", ["augment.erase=0.1: there is no", "Did you mean data.policy.erase?"]),
    (S + "trainer=dpp", ["trainer=dpp", "auto, cpu, ddp, ddp_cpu, fsdp, fsdp_cpu, gpu", "Did you mean ddp?"]),
    (S + "loss=ce", ["loss=ce", "losses: binary_cross_entropy, cross_entropy, "]),
    (S + "mix=mixupp", ["mix=mixupp", "cutmix, mixup, ", "Did you mean mixup?"]),
    (S + "hydra.run.dir=/proc/x", ["/proc/x: ", "hydra.run.dir"]),
    (S + "norm=swichable", ["norm=swichable", "Did you mean switchable"]),
    (S + "logger=wandbb", ["logger=wandbb", "mlflow, none, tensorboard, wandb", "Did you mean wandb?"]),
    ("experiment=resnext/cifar", ["experiment=resnext/cifar", "Did you mean resnext/cifar10?"]),
    ("experiment/resnext=cifar10", ["experiment/resnext=cifar10", "write experiment=resnext/cifar10"]),
    ("~model", ["model must be given", MODELS]),
    # keys
    (S + "trainr=cpu", ["trainr=cpu", "keys: model, ", "Did you mean trainer?"]),
    (S + "trainer.max_epoch=3", ["trainer.max_epoch=3", "max_epochs, max_steps", "Did you mean trainer.max_epochs?"]),
    (S + "trainr.max_epochs=3", ["trainr.max_epochs=3", "Did you mean trainer.max_epochs?"]),
    (S + "+trainer.foo=1", ["trainer.foo=1: there is no such key", "keys in trainer: accelerator, devices"]),
    (S + "++foo=1", ["foo=1: there is no such key", "keys: model, "]),
    (S + "lr=0.5", ["lr=0.5: there is no such key", "Did you mean optimizer.lr?"]),
    (S + "epochs=3", ["epochs=3: there is no such key", "Did you mean trainer.max_epochs?"]),
    (S + "batch_size=3", ["batch_size=3", "Did you mean data.batch_size?"]),
    (S + "data.augment.flipp=1", ["keys in data.augment: crop_padding, flip, resized_crop", "mean data.augment.flip?"]),
    (S + "+seed=1", ["+seed", "leave the + away"]),
    (S + "~foo", ["~foo: there is no such key", "keys: model, "]),
    (S + "~optimizer.lr", ["optimizer.lr: must be given"]),
    (S + "hydra.foo=1", ["hydra.foo=1: Hydra has no such key"]),
    # keys that another option of the group has
    (S + "optimizer=adamw optimizer.momentum=0.9", ["optimizer.momentum=0.9", "momentum goes with optimizer=sgd"]),
    (S + "optimizer=adamw +optimizer.momentum=0.9", ["optimizer.momentum=0.9", "adamw has no momentum", "betas, eps"]),
    (S + "mix.alpha=1", ["mix.alpha=1", "alpha goes with mix=cutmix or mixup"]),
    (S + "+mix.alpha=1", ["mix.alpha=1: mix=none has no alpha"]),
    (S + "data.root=photos", ["data.root=photos", "root goes with data="]),
    (S + "+data.streaming=true", ["data.streaming=true: data=mnist5k has no streaming"]),
    (S + "+scheduler.gamma=0.5", ["scheduler.gamma=0.5: scheduler=cosine has no gamma", "final"]),
    (S + "logger=none +logger.mode=online", ["logger.mode=online: logger=none has no mode"]),
    # types and ranges
    (S + "trainer.max_epochs=ten", ["trainer.max_epochs=ten: must be a whole number"]),
    (S + "trainer.max_epochs=1.5", ["trainer.max_epochs=1.5: must be a whole number"]),
    (S + "trainer.max_epochs=true", ["trainer.max_epochs=true: must be a whole number"]),
    (S + "trainer.max_epochs=null", ["trainer.max_epochs=null: must be a whole number"]),
    (S + "trainer.max_epochs=0", ["trainer.max_epochs=0: must be at least 1"]),
    (S + "optimizer.lr=fast", ["optimizer.lr=fast: must be a number"]),
    (S + "optimizer.lr=0", ["optimizer.lr=0: must be greater than 0"]),
    (S + "optimizer.lr=nan", ["optimizer.lr=nan: must be a finite number"]),
    (S + "optimizer.momentum=1", ["optimizer.momentum=1: must be less than 1"]),
    (S + "seed=-1", ["seed=-1: must be at least 0"]),
    (S + "seed=1.0", ["seed=1.0: must be a whole number"]),
    (S + "seed=4294967296", ["seed=4294967296: must be less than 4294967296"]),
    (S + "deterministic=yes", ["deterministic=yes: must be true or false"]),
    (S + "tags=a", ["tags=a: must be a list"]),
    (S + "tags=[a,1]", ["tags.1=1: must be a word"]),
    (S + "data.augment=true", ["data.augment=true: must be a group of keys"]),
    (S + "data.augment.flip=2", ["data.augment.flip=2: must be at most 1"]),
    (S + "data.in_chans=2", ["data.in_chans=2: must be one of 1, 3"]),
    (S + "optimizer=adamw optimizer.betas=[0.9]", ["optimizer.betas=[0.9]: must be a list of 2"]),
    (S + "trainer.precision=fp16", ["trainer.precision=fp16", "32-true, 16-mixed, bf16-mixed, 64-true"]),
    (S + "logger.mode=on-line", ["logger.mode=on-line", "offline, online, disabled", "Did you mean online?"]),
    (S + "loss.label_smoothing=1", ["loss.label_smoothing=1: must be less than 1"]),
    (S + "checkpoint.every_seconds=0", ["checkpoint.every_seconds=0: must be greater than 0"]),
    (S + "seed=-1 trainer.max_epochs=0", ["trainer.max_epochs=0: must be at least 1", "and 1 more mistake)"]),
    # grammar
    (S + "optimizer.lr=[1,2", ["optimizer.lr=[1,2", "[ and ] do not match"]),
    (S + "optimizer.lr=0,1", ["optimizer.lr=0,1", "several values need -m"]),
    (S + "optimizer.lr = 3", ["optimizer.lr: has no =", "without spaces"]),
    (S + "trainer.max_epochs", ["trainer.max_epochs: has no ="]),
    (S + "''", ["is empty"]),
    (S + "=3", ["=3: has no key"]),
    ("scnet", ["scnet: has no =", "Did you mean model=scnet?"]),
    ("model scnet", ["model: has no =", "model=option"]),
    (S + "data=image_folder data.root=/a=b", ["data.root=/a=b", "'data.root=\"/a=b\"'"]),
    (S + "seed='1\n2 3'", ["seed=1", "cannot be read"]),
    # interpolations
    (S + "'seed=${oc.env:PAPERZOO_NOWHERE}'", ["seed=${oc.env:PAPERZOO_NOWHERE}", "PAPERZOO_NOWHERE is not set"]),
    (S + "'paths.data_dir=${nowhere}'", ["paths.data_dir=${nowhere}", "names no key"]),
    (S + "'seed=${seed}'", ["seed=${seed}", "recursive"]),
    # the command's own options
    (S + "--max-epochs=3", ["--max-epochs=3", "key=value", "Did you mean trainer.max_epochs=...?"]),
    (S + "--lr 0.1", ["--lr", "Did you mean optimizer.lr=...?"]),
    (S + "-x", ["-x: there is no such option", "--help, --cfg job"]),
    (S + "--cfg jobb", ["jobb", "'job', 'hydra', 'all'"]),
    (S + "--cfg job trainer.max_epochs=0", ["trainer.max_epochs=0: must be at least 1"]),
    (S + "--resolve", ["--resolve", "--cfg job"]),
    ("--config-name=nope", ["--config-name=nope", "conf/train.yaml"]),
    (S + "--cfg job -m", ["--multirun --cfg", "exclude each other"]),
    # the paper's own options
    (S + "model.network=scnet5", ["model.network=scnet5", "scnet_small, scnet50, scnet101", "Did you mean scnet50?"]),
    (S + "model.network=resnet50", ["model.network=resnet50: there is no such network of scnet"]),
    (S + "model.poolingrate=2", ["model.poolingrate=2", "Did you mean model.pooling_rate?"]),
    (S + "+model.scale=4", ["model.scale=4: scnet has no such option", "pooling_rate, identity, pooling"]),
    (S + "model.pooling_rate=two", ["model.pooling_rate=two: must be a whole number at least 1"]),
    (S + "model.pooling_rate=0", ["model.pooling_rate=0: must be a whole number at least 1"]),
    (S + "model.pooling_rate=null", ["model.pooling_rate=null: must be a whole number"]),
    (S + "model.pooling=mean", ["model.pooling=mean: must be one of avg, max"]),
    (S + "model.identity=1", ["model.identity=1: must be true or false"]),
    (S + "model.depth=21", ["model.depth=21: must be one of 11, 20, 29"]),
    (S + "model.network=scnet50 model.depth=20", ["model.depth=20: only for *_small, not for scnet50"]),
    (S + "model.checkpoint=/nowhere.pth", ["model.checkpoint=/nowhere.pth: there is no such file"]),
    (S + "model.name=scnett", ["model.name=scnett", "Did you mean scnet?"]),
    # data
    (S + "data=image_folder", ["data.root: must be given"]),
    (S + "data=image_folder data.root=/nowhere", ["data.root=/nowhere: there is no such folder"]),
    (S + "data=image_folder data.root=/etc/hostname", ["data.root=/etc/hostname: is a file"]),
    (S + "data=image_folder data.root=.", ["data.root=.: the folder is empty"]),
    (S + "data=hf", ["data.path must be given with data=hf"]),
    (S + "data=hf data.path=./nowhere", ["data.path=./nowhere: there is no such folder"]),
    # combinations
    (S + "trainer.devices=2", ["trainer.devices=2 with trainer=auto", "trainer=ddp_cpu"]),
    (S + "trainer=ddp_cpu trainer.devices=9999", ["trainer.devices=9999", "cores"]),
    (S + "trainer.backend=gloo", ["trainer.backend=gloo with trainer=auto"]),
    (S + "trainer=ddp trainer.accelerator=cpu", ["trainer.backend=nccl with trainer.accelerator=cpu", "gloo"]),
    (S + "trainer=cpu trainer.precision=16-mixed", ["trainer.precision=16-mixed", "use 32-true"]),
    (S + "trainer.threads=9999", ["trainer.threads=9999", "cores"]),
    (S + "optimizer.momentum=0", ["optimizer.nesterov=true: needs optimizer.momentum above 0"]),
    (S + "scheduler.warmup_epochs=20", ["scheduler.warmup_epochs=20", "trainer.max_epochs=12"]),
    (S + "scheduler=step scheduler.warmup_start=0.1", ["scheduler.warmup_start=0.1", "warmup_epochs above 0"]),
    (S + "scheduler=step scheduler.milestones=[4,20]", ["scheduler.milestones=[4,20]: 20 is not before"]),
    (S + "scheduler=step scheduler.milestones=null", ["scheduler=step: needs scheduler.milestones"]),
    (S + "data.augment.resized_crop=true", ["data.augment.resized_crop=true: needs data.image_size"]),
    (S + "data.mean=[0.5]", ["data.mean and data.std: give both"]),
    (S + "data.mean=[0.5,0.5] data.std=[1,1]", ["data.mean=[0.5,0.5]: must have 1 or 3 numbers"]),
    (
        S + "data.in_chans=1 data.mean=[0.1,0.2,0.3] data.std=[1,1,1]",
        ["data.mean=[0.1,0.2,0.3]: must have one number, or 1"],
    ),
    (S + "mix=mixup data.batch_size=1", ["mix=mixup with data.batch_size=1"]),
    (S + "data.limit_train=10", ["data.limit_train=10", "lower data.batch_size"]),
    (S + "data.validation=1.5", ["data.validation=1.5: must be a whole number of images, or a fraction"]),
    (S + "data=hf data.path=a/b data.streaming=true sampler=pk", ["sampler=pk with data.streaming=true"]),
    (S + "data=hf data.path=a/b data.streaming=true data.in_memory=true", ["data.streaming=true with", "exclude"]),
    (S + "resume=../elsewhere", ["resume=../elsewhere: must be auto or a run's id"]),
    (S + "paths.runs_dir=/etc/hostname/x", ["paths.runs_dir=/etc/hostname/x", "/etc/hostname is no folder"]),
    # several runs
    (S + "-m trainer=ddp_cpu", ["-m with trainer=ddp_cpu", "shell loop"]),
    (S + "-m trainer=ddp_cpu seed=0,1 hydra.sweep.dir=elsewhere", ["-m with trainer=ddp_cpu", "shell loop"]),
    (S + "-m trainer=ddp_cpu seed=0,1 hydra/launcher=submitit_local", ["-m with trainer=ddp_cpu", "submitit_slurm"]),
    ("-m model=scnet,resnett", ["model=scnet,resnett", "Did you mean resnet?"]),
    (S + "-m seed=0,1,x", ["seed=x: must be a whole number"]),
    # an experiment
    ("experiment=scnet/imagenet data.batch_size=many", ["data.batch_size=many: must be a whole number"]),
    ("experiment=scnet/imagenet model.network=scnet5", ["model.network=scnet5", "Did you mean scnet50?"]),
]  # fmt: skip


@pytest.mark.parametrize(("line", "held"), MISTAKES, ids=[line or "nothing" for line, _ in MISTAKES])
def test_mistake(line, held, train, tmp_path):
    done = train(*shlex.split(line))
    assert done.code == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")
    for words in held:
        assert words in done.err
    assert done.out == ""
    assert done.config is None
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "line",
    [
        "model=scnett",
        "",
        S + "trainer.max_epochs=ten",
        S + "trainer.max_epoch=3",
        S + "data=image_folder data.root=/nowhere",
        S + "trainer.devices=2",
        S + "optimizer.lr=[1,2",
        S + "-m seed=0,x",
    ],
)
def test_mistake_in_a_process_of_its_own(line, command, tmp_path):
    done = command(*shlex.split(line))
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert [*tmp_path.iterdir()] == []


def test_gpu_that_is_not_there(train, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    done = train("model=scnet", "trainer=gpu", torch=True)
    assert done.code == 2
    assert (
        done.err == "error: trainer=gpu: there is no GPU that torch can use here; use trainer=cpu or trainer=ddp_cpu\n"
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    done = train("model=scnet", "trainer=ddp", "trainer.devices=8", torch=True)
    assert done.code == 2
    assert done.err == "error: trainer.devices=8: there are 2 GPUs here\n"


@pytest.mark.parametrize(("flags", "code"), [("fpu sse2 avx512f", 2), ("fpu avx512_bf16", 0), ("fpu amx_bf16", 0)])
def test_bf16_needs_a_cpu_that_computes_it(flags, code, train, monkeypatch):
    read = Path.read_text
    monkeypatch.setattr(
        Path,
        "read_text",
        lambda self, *a, **k: f"flags : {flags}\n" if str(self) == "/proc/cpuinfo" else read(self, *a, **k),
    )
    done = train("model=scnet", "trainer=cpu", "trainer.precision=bf16-mixed")
    assert done.code == code
    assert ("14 times slower" in done.err) == (code == 2)


def test_runs_dir_that_may_not_be_written(train, tmp_path, monkeypatch):
    monkeypatch.setattr(checks.os, "access", lambda path, mode: Path(path) != tmp_path)  # to root all is open
    done = train("model=scnet", f"paths.runs_dir={tmp_path}/runs")
    assert done.code == 2
    assert (
        done.err
        == f"error: paths.runs_dir={tmp_path}/runs: {tmp_path} is no folder that may be written; choose another\n"
    )


def test_experiment_is_named_where_the_mistake_is_its_own(train, monkeypatch, tmp_path):
    from paperzoo.config import invalid
    from paperzoo.config.schema import Config

    assert invalid.translate(_mistake(), Config, {}, ["experiment=a/b"]).endswith("(experiment=a/b sets it)")
    assert "sets it" not in invalid.translate(_mistake(), Config, {}, ["experiment=a/b", "optimizer.lr=-1"])


def _mistake():
    from pydantic import BaseModel, ConfigDict, ValidationError

    class Inner(BaseModel):
        model_config = ConfigDict(strict=True)
        lr: int

    class Outer(BaseModel):
        optimizer: Inner

    with pytest.raises(ValidationError) as caught:
        Outer.model_validate({"optimizer": {"lr": "x"}})
    return caught.value


@pytest.mark.parametrize(("words", "line"), [
    (["optimizer=rmss"], r"optimizer=rmss: there is no such optimizer; optimizers: adamw, rms, .* Did you mean rms\?"),
    (["model=scnett"], r"model=scnett: there is no such model; models: bagging, .*, triplet\. Did you mean scnet\?"),
    (["optimizer=rms", "trainer.max_epochs=1"],
     r"optimizer.name: must be given in optimizer, e.g. \+optimizer.name=..., or a line in the file of optimizer=rms "
     r"\(and 1 more mistake\)"),
    (["optimizer=rms", "+optimizer.name=r"], r"optimizer.weight_decay: must be given in optimizer, e.g. .*"),
    (["--config-dir", "nowhere"], r"--config-dir=.*nowhere: there is no such folder; .*"),
])  # fmt: skip
def test_a_mistake_beside_options_of_ones_own_is_one_line(words, line, train, tmp_path):
    (tmp_path / "optimizer").mkdir()
    (tmp_path / "optimizer" / "rms.yaml").write_text("_target_: torch.optim.RMSprop\nlr: 0.1\n")
    done = train("model=scnet", "--config-dir", str(tmp_path), *words)
    assert done.code == 2
    assert re.fullmatch(f"error: {line}\n", done.err), done.err


@pytest.mark.parametrize("word", ["debug=true", "debug=True", "++debug=true"])
def test_debug_shows_where(word, train):
    done = train("model=scnet", "trainer.max_epochs=0", word)
    assert done.code == 2
    assert "Traceback" in done.err
    assert "loading.py" in done.err
    assert done.err.rstrip().endswith("UserError: trainer.max_epochs=0: must be at least 1")


def test_our_own_bugs_keep_their_traceback(train, monkeypatch):
    def broken(config):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(checks, "CHECKS", (broken,))
    with pytest.raises(ZeroDivisionError, match="a bug"):
        train("model=scnet")


def _sgd(**changes):
    return Optimizer.model_validate(
        {"name": "sgd", "_target_": "torch.optim.SGD", "lr": 0.1, "weight_decay": 0.0} | changes
    )


def test_build_calls_the_target_with_what_is_not_null():
    import torch

    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = build(_sgd(momentum=0.5), [weight])
    assert isinstance(optimizer, torch.optim.SGD)
    assert optimizer.defaults["momentum"] == 0.5
    assert optimizer.defaults["nesterov"] is False


@pytest.mark.parametrize(
    ("target", "held"),
    [
        ("torch.optim.SDG", "_target_=torch.optim.SDG: there is no such class or function"),
        ("torch.optimm.SGD", "_target_=torch.optimm.SGD: there is no such class or function"),
        ("SGD", "_target_=SGD: there is no such class or function"),
        ("torch.optim.Adam", "_target_=torch.optim.Adam: does not take what the configuration gives it"),
    ],
)
def test_build_names_the_target_that_does_not_fit(target, held):
    with pytest.raises(UserError) as caught:
        build(_sgd(_target_=target, momentum=0.9), [])
    assert held in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_another_target_brought_is_named_with_how_to_leave_it_out():
    with pytest.raises(
        UserError, match=r"^optimizer._target_=torch.optim.RMSprop: .*'nesterov'\).*; it takes lr, alpha, "
    ):
        build(_sgd(_target_="torch.optim.RMSprop", nesterov=True), [])
    with pytest.raises(UserError, match=r"; ~optimizer.nesterov leaves nesterov out$"):
        build(_sgd(_target_="torch.optim.RMSprop", nesterov=True), [])


def test_a_word_where_a_target_of_ones_own_wants_a_number_is_one_line():
    with pytest.raises(UserError, match=r"^optimizer.alpha=abc: torch.optim.RMSprop fails on such values \('<=' not"):
        build(_sgd(_target_="torch.optim.RMSprop", alpha="abc"), [])


def test_build_leaves_a_targets_own_errors_alone():
    with pytest.raises(TypeError):  # int() takes the argument, and fails on it
        build(Choice.model_validate({"name": "x", "_target_": "builtins.sum"}), [1, "a"])


def test_load_config_refuses_what_is_not_in_the_schema(train):
    plain = dump(train("model=scnet").config)
    with pytest.raises(UserError, match=r"^speed=1: there is no such key"):
        load_config(plain | {"speed": 1})


@pytest.mark.parametrize(("line", "held"), [
    ("modle=scnet", "Did you mean model?"),
    (S + "-m hydra/sweeper=optuna seed=0,1", "python src/sweep.py sweeps/x.yaml runs one"),
])  # fmt: skip
def test_the_nearest_thing_is_meant(line, held, train):
    done = train(*shlex.split(line))
    assert (done.code, done.out) == (2, "")
    assert held in done.err


def test_version_is_paperzoos(train):
    assert train("--version").out.startswith("Paperzoo 0.")


def test_small_commands_take_the_run_first_and_folders_either_way():
    from paperzoo.config.program import as_overrides

    assert as_overrides(["12e4567890-1", "runs_dir=r", "split=val"]) == [
        "run=12e4567890-1", "paths.runs_dir=r", "split=val",
    ]  # fmt: skip
    assert as_overrides(["run=a", "paths.data_dir=d"]) == ["run=a", "paths.data_dir=d"]
    assert as_overrides(["--help"]) == ["--help"]
    assert as_overrides(["split=val", "12e4567890-1"]) == ["split=val", "run=12e4567890-1"]
    assert as_overrides(["run=a", "--cfg", "job"]) == ["run=a", "--cfg", "job"]


def test_jobs_of_slurm_where_there_is_none(train, monkeypatch):
    monkeypatch.setenv("PATH", "")
    done = train("-m", "hydra/launcher=submitit_slurm", "model=scnet", "seed=0,1")
    assert done.code == 2
    assert done.err.startswith("error: hydra/launcher=submitit_slurm: there is no srun here")
    shown = train("-m", "hydra/launcher=submitit_slurm", "hydra.launcher.nodes=2", "model=scnet", "dry_run=true")
    assert (shown.code, shown.config.dry_run) == (0, True)  # nothing is started, so no Slurm is needed
