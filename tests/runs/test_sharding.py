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


MORE = ("trainer.max_epochs=2", "optimizer=adamw", "norm=sync_batch", "trainer.gradient_clip_val=0.05",
        "trainer.accumulate_grad_batches=2", "trainer.val_check_interval=2", "trainer.channels_last=false")  # fmt: skip
SHARDED = ("trainer=fsdp_cpu", *MORE)  # AdamW spares norms and biases of decay, which parts of parameters do not say


@pytest.fixture(scope="module")
def sharded(tmp_path_factory):
    """A run, left alone."""
    return trained(tmp_path_factory.mktemp("sharded") / "runs", *SHARDED)


def test_it_follows_ddp(sharded, tmp_path):
    entry, folder = sharded
    other, beside = trained(tmp_path / "runs", "trainer=ddp_cpu", *MORE)
    assert entry.identity == other.identity  # where it is trained is no part of it
    assert [row["epoch"] for row in entry.epochs] == [row["epoch"] for row in other.epochs]
    for row, as_ddp in zip(entry.whole_epochs, other.whole_epochs, strict=True):
        assert row["train/loss"] == pytest.approx(as_ddp["train/loss"], rel=1e-3)
    one, two = state(folder, "last.ckpt"), state(beside, "last.ckpt")
    assert [(name, value.shape) for name, value in one.items()] == [(name, value.shape) for name, value in two.items()]
    one, two = (read_optimizer(place) for place in (folder, beside))
    assert one["param_groups"] == two["param_groups"]
    for number, kinds in two["state"].items():  # what has moved most is far from rounding
        assert one["state"][number]["step"] == kinds["step"]
        for kind in ("exp_avg", "exp_avg_sq"):
            scale = float(kinds[kind].abs().max())
            assert float((one["state"][number][kind] - kinds[kind]).abs().max()) < 0.2 * scale + 1e-9


def read_optimizer(folder: Path) -> dict:
    (found,) = checkpoints.load(folder / "checkpoints" / "state.ckpt")["optimizer_states"]
    return found


def test_what_it_leaves_is_as_of_any_run(sharded):
    entry, folder = sharded
    again = evaluate(compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={folder.parents[2]}"]))  # on one rank
    assert again["test/top1"] == entry.results["last"].metrics["test/top1"]
    assert again["test/loss"] == pytest.approx(entry.results["last"].metrics["test/loss"], rel=1e-5)
    best = evaluate(compose("evaluate", [f"run={entry.id}", "weights=best", f"paths.runs_dir={folder.parents[2]}"]))
    assert isinstance(load(folder), torch.nn.Module)
    assert best["test/loss"] == pytest.approx(entry.results["best"].metrics["test/loss"], rel=1e-5)


@pytest.mark.full
@pytest.mark.parametrize("steps", [1, 3, 5])  # after 1 and 5 a validation follows, 3 is the end of an epoch
def test_an_interrupted_run_goes_on(sharded, steps, tmp_path):
    entry, folder = sharded
    words = (*SHARDED, "resume=auto")
    trained(tmp_path / "runs", *words, stop=steps, code=128 + signal.SIGTERM)
    again, other = trained(tmp_path / "runs", *words)
    assert again.segments[-1].from_step == steps
    assert compare.first_difference(entry, again) is None
    for name in ("last.ckpt", "best.ckpt"):
        one, two = state(folder, name), state(other, name)
        assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.full
def test_ddp_goes_on_with_its_state(sharded, tmp_path):
    entry, _ = sharded
    trained(tmp_path / "runs", *SHARDED, "resume=auto", stop=4, code=128 + signal.SIGTERM)
    again, _ = trained(tmp_path / "runs", "trainer=ddp_cpu", *MORE, "resume=auto")
    assert again.segments[-1].from_step == 4
    assert again.epochs[-1]["train/loss"] == pytest.approx(entry.epochs[-1]["train/loss"], rel=1e-3)


@pytest.mark.parametrize(("words", "line"), [
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
        compose("train", [*WORDS, "trainer=fsdp_cpu", *words])
    assert str(told.value).startswith(line)


@pytest.mark.parametrize(("norm", "line"), [
    ("mabn", "the network keeps statistics of each rank's own"), ("switchable", "NormRatios reads parameters"),
])  # fmt: skip
def test_layers_that_need_the_whole_are_one_line(norm, line, tmp_path):
    config = compose("train", [*WORDS, f"norm={norm}", f"paths.runs_dir={tmp_path}"])
    module = make_module(config, load_data(config))
    with pytest.raises(UserError, match=rf"trainer.strategy=fsdp: {line}.*use trainer.strategy=ddp"):
        sharding.check(module)
