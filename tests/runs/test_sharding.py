"""FSDP (trainer=fsdp_cpu, two processes): what it leaves is whole, equal to DDP's, and exact under kills."""

import signal
from pathlib import Path

import forked
import pytest
import torch
from composed import compose

from paperzoo import sharding
from paperzoo.errors import UserError
from paperzoo.evaluation import evaluate
from paperzoo.inference.loading import load
from paperzoo.runs import checkpoints, compare, record
from paperzoo.tasks.making import make_module
from paperzoo.training import load_data

WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=96", "data.batch_size=8",
         "data.image_size=12", "data.validation=51", "data.test=53", "data.eval_batch_size=16", "optimizer.lr=0.02",
         "trainer.max_epochs=2", "trainer.threads=1", "trainer.log_every_n_steps=1", "logger=none",
         "pictures=false"]  # fmt: skip
# As a user's program, with units so small that the network is of many, and with a signal after so many steps.
SCRIPT = """
import sys
from contextlib import nullcontext
sys.path.insert(0, {helpers!r})
from interruption import stopped_by
from paperzoo import sharding
from paperzoo.config import program

sharding.UNIT = 500

@program("train")
def main(config):
    from paperzoo.training import train
    with stopped_by(15, {stop}) if {stop} else nullcontext():
        train(config)

main()
"""


def trained(folder: Path, *words: str, stop: int = 0, code: int = 0) -> tuple[record.Record, Path]:
    """A run on two ranks, and its folder."""
    script = folder.parent / f"{folder.name}_{stop}.py"
    script.write_text(SCRIPT.format(helpers=str(Path(forked.__file__).parent), stop=stop))
    given = [*WORDS, *words, f"paths.runs_dir={folder}"]
    both = forked.start_ranks(script, *given, ranks=2, logs=folder.parent / f"{folder.name}_{stop}.logs")
    for process in both:
        output = process.communicate(timeout=200)[0]
        assert process.returncode == code, output[-3000:]
    (path,) = folder.glob("*/*/*/run.json")
    return record.read(path.parent), path.parent


def state(folder: Path, name: str) -> dict[str, torch.Tensor]:
    return checkpoints.load(folder / "checkpoints" / name)["state_dict"]


SHARDED = ("trainer=fsdp_cpu", "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A run, left alone; AdamW spares norms and biases of decay, which parts of parameters do not say."""
    return trained(tmp_path_factory.mktemp("sharded") / "runs", *SHARDED, "optimizer=adamw", "norm=sync_batch")


def test_it_follows_ddp(sharded, tmp_path):
    entry, folder = sharded
    other, beside = trained(tmp_path / "runs", "trainer=ddp_cpu", "trainer.max_epochs=2", "optimizer=adamw",
                            "norm=sync_batch")  # fmt: skip
    assert entry.identity == other.identity  # where it is trained is no part of it
    for row, as_ddp in zip(entry.epochs, other.epochs, strict=True):
        assert row["train/loss"] == pytest.approx(as_ddp["train/loss"], rel=1e-3)
    one, two = state(folder, "last.ckpt"), state(beside, "last.ckpt")
    assert one.keys() == two.keys()
    assert all(one[name].shape == two[name].shape for name in one)


def test_what_it_leaves_is_as_of_any_run(sharded):
    entry, folder = sharded
    again = evaluate(compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={folder.parents[2]}"]))  # on one rank
    assert again["test/top1"] == entry.results["last"].metrics["test/top1"]
    assert again["test/loss"] == pytest.approx(entry.results["last"].metrics["test/loss"], rel=1e-5)
    best = evaluate(compose("evaluate", [f"run={entry.id}", "weights=best", f"paths.runs_dir={folder.parents[2]}"]))
    assert isinstance(load(folder), torch.nn.Module)
    assert best["test/loss"] == pytest.approx(entry.results["best"].metrics["test/loss"], rel=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("steps", [2, 6, 9])
def test_an_interrupted_run_goes_on(sharded, steps, tmp_path):
    entry, folder = sharded
    words = (*SHARDED, "optimizer=adamw", "norm=sync_batch", "resume=auto")
    trained(tmp_path / "runs", *words, stop=steps, code=128 + signal.SIGTERM)
    again, other = trained(tmp_path / "runs", *words)
    assert again.segments[-1].from_step == steps
    assert compare.first_difference(entry, again) is None
    for name in ("last.ckpt", "best.ckpt"):
        one, two = state(folder, name), state(other, name)
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_its_state_is_that_of_an_optimiser_of_the_whole_network(sharded, tmp_path):
    """DDP goes on with it: the numbers of parameters are those of the groups, decayed and spared."""
    _, folder = sharded
    saved = checkpoints.load(folder / "checkpoints" / "state.ckpt")
    weights, (optimizer,) = saved["state_dict"], saved["optimizer_states"]
    decayed, spared = (group["params"] for group in optimizer["param_groups"])
    shapes = [optimizer["state"][number]["exp_avg"].shape for number in (*decayed, *spared)]
    assert [*decayed, *spared] == list(range(len(shapes)))
    assert all(len(shape) > 1 for shape in shapes[: len(decayed)])
    assert all(len(shape) == 1 for shape in shapes[len(decayed) :])
    names = [name for name in weights if name.endswith(("weight", "bias"))]
    assert sorted(shapes) == sorted(weights[name].shape for name in names)


@pytest.mark.parametrize(("words", "line"), [
    (["trainer.gradient_clip_val=1"], "trainer.gradient_clip_val=1.0 with trainer.strategy=fsdp: Lightning's"),
    (["trainer.precision=64-true"], "trainer.precision=64-true with trainer.strategy=fsdp: Lightning's"),
    (["average=moving"], "average=moving with trainer.strategy=fsdp: the average is of whole weights"),
    (["procedure=snapshot", "model=boosting"], "procedure=snapshot with trainer.strategy=fsdp: its stages"),
    (["trainer.compile=true"], "trainer.compile=true with trainer.strategy=fsdp: a compiled network"),
    (["model.freeze=[conv1]"], "model.freeze with trainer.strategy=fsdp: parts have"),
    (["optimizer=timm"], "optimizer=timm with trainer.strategy=fsdp: it may look at whole parameters"),
    (["trainer.devices=1"], "trainer.devices=1 with trainer.strategy=fsdp: there is nothing to divide among"),
])  # fmt: skip
def test_what_cannot_be_divided_is_one_line(words, line):
    with pytest.raises(UserError) as told:
        compose("train", [*WORDS, *SHARDED, *words])
    assert str(told.value).startswith(line)


@pytest.mark.parametrize(("norm", "line"), [
    ("mabn", "the network keeps statistics of each rank's own"), ("switchable", "NormRatios reads parameters"),
])  # fmt: skip
def test_layers_that_need_the_whole_are_one_line(norm, line, tmp_path):
    config = compose("train", [*WORDS, f"norm={norm}", f"paths.runs_dir={tmp_path}"])
    module = make_module(config, load_data(config))
    with pytest.raises(UserError, match=rf"trainer.strategy=fsdp: {line}.*use trainer.strategy=ddp"):
        sharding.check(module)
