"""Two ranks as a user starts them: one folder, every sample counted once, other random numbers on each rank."""

import csv
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import forked
import psutil
import pytest
import torch
from composed import compose
from hydra import compose as hydra_compose
from hydra import initialize_config_dir

from paperzoo import random_state
from paperzoo.config.messages import CONF
from paperzoo.distributed import weight_of_rank
from paperzoo.dry_run import show
from paperzoo.evaluation import evaluate
from paperzoo.runs import checkpoints, record
from paperzoo.training import train

TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"
WORDS = ["model=resnet", "model.depth=11", "model.width=4", "data.limit_train=96", "data.batch_size=8",
         "data.image_size=12", "data.validation=51", "data.test=53", "data.eval_batch_size=16",
         "trainer=ddp_cpu", "trainer.max_epochs=2", "trainer.threads=1"]  # fmt: skip


@pytest.mark.promise
def test_two_processes_make_one_run_and_count_every_sample_once(tmp_path):
    process = started(WORDS, tmp_path)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output[-3000:]
    assert output.count(" begins in ") == 1  # rank 0 alone speaks
    (path,) = tmp_path.glob("*/*/*/run.json")
    entry = record.read(path.parent)
    assert (entry.ranks, entry.global_batch_size) == (2, 16)
    assert len(list(tmp_path.glob("*/*/*/wandb/offline-run-*"))) == 1
    again = evaluate(compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={tmp_path}"]))  # on one rank
    on_record = entry.results["last"].metrics
    assert again["test/top1"] == on_record["test/top1"]
    assert again["test/loss"] == pytest.approx(on_record["test/loss"], rel=1e-6)
    assert again["test/ece"] == pytest.approx(on_record["test/ece"], rel=1e-4)


def test_ranks_draw_other_numbers_and_repeat_them():
    drawn = []
    for rank in (0, 1, 0):
        random_state.seed_everything(3, "training", "rank", rank)
        drawn.append(torch.rand(8))
    assert torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0], drawn[1])


def test_a_saved_state_goes_on_with_the_same_numbers():
    random_state.seed_everything(1)
    torch.rand(3)
    saved = random_state.state()
    expected = torch.rand(5)
    random_state.restore(saved)
    assert torch.equal(torch.rand(5), expected)


def started(words: list[str], runs: Path) -> Any:
    """As a user starts it: Lightning starts the other ranks, each a new process; the first is a fork."""
    return forked.start(TRAIN, *words, f"paths.runs_dir={runs}", log=runs.parent / f"{runs.name}.log")


def forked_ranks(words: list[str], runs: Path, ranks: int = 2) -> list[Any]:
    """As torchrun starts them, in forks."""
    return forked.start_ranks(
        TRAIN, *words, f"paths.runs_dir={runs}", ranks=ranks, logs=runs.parent / f"{runs.name}.logs"
    )


def losses(runs: Path) -> list[float]:
    (path,) = runs.glob("*/*/*/steps.csv")
    with path.open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file)]


@pytest.mark.promise
@pytest.mark.parametrize(("norm", "more"), [
    ("sync_batch", []),
    pytest.param("paper", ["trainer.sync_batchnorm=true"], marks=pytest.mark.full),
    pytest.param("switchable", ["trainer.sync_batchnorm=true"], marks=pytest.mark.full),
])  # fmt: skip
def test_two_ranks_with_32_follow_one_with_64(norm, more, tmp_path):
    """Same images in the same order, float64, 20 steps: the loss curves agree to 1e-8."""
    words = ["model=scnet", "model.depth=11", "model.width=4", "data.image_size=12", "data.limit_train=640",
             "data.augment.crop_padding=0", "data.validation=50", "data.test=50", "trainer.precision=64-true",
             "trainer.max_epochs=2", "trainer.log_every_n_steps=1", "trainer.threads=1", "logger=none",
             f"norm={norm}", "optimizer.lr=0.02"]  # fmt: skip
    train(compose("train", [*words, "trainer=cpu", "data.batch_size=64", f"paths.runs_dir={tmp_path / 'one'}"]))
    two = forked_ranks([*words, *more, "trainer=ddp_cpu", "data.batch_size=32"], tmp_path / "two")
    for process in two:
        output = process.communicate(timeout=300)[0]
        assert process.returncode == 0, output[-3000:]
    alone, together = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert len(alone) == len(together) == 20
    assert max(abs(a - b) for a, b in zip(alone, together, strict=True)) < 1e-8
    assert alone[-1] < alone[0]  # it does learn


@pytest.mark.full
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_dies_ends_all_with_a_line_that_names_it(victim, tmp_path):
    words = [word for word in WORDS if not word.startswith("trainer.max_epochs")]
    main = started([*words, "trainer.max_epochs=500", "logger=none"], tmp_path)
    while not list(tmp_path.glob("*/*/*/metrics.csv")):
        assert main.poll() is None, main.communicate()[0]
        time.sleep(0.2)
    (child,) = psutil.Process(main.pid).children()
    processes = [psutil.Process(main.pid), child]
    began = time.monotonic()
    processes[victim].kill()
    if victim == 0:
        child.wait(30)
    main.wait(30)
    assert time.monotonic() - began < 30
    output = main.communicate(timeout=30)[0]
    assert f"error: rank {victim} (process {processes[victim].pid} on " in output
    assert "Traceback" not in output
    assert main.returncode == (1 if victim == 1 else -9)
    if victim == 1:
        (path,) = tmp_path.glob("*/*/*/run.json")
        entry = record.read(path.parent)
        assert (entry.status, entry.failure.kind) == ("failed", "RankLost")


@pytest.mark.full
def test_a_rank_that_dies_before_it_has_met_the_others_is_named_too(tmp_path):
    main = started([*WORDS, "logger=none"], tmp_path)
    child = None
    while child is None:  # other children are git's
        assert main.poll() is None, main.communicate()[0]
        time.sleep(0.05)
        with suppress(psutil.Error):
            children = psutil.Process(main.pid).children()
            child = next((process for process in children if process.environ().get("LOCAL_RANK") == "1"), None)
    child.kill()
    output = main.communicate(timeout=30)[0]
    assert main.returncode == 1
    assert f"error: rank 1 (process {child.pid} on " in output
    (path,) = tmp_path.glob("*/*/*/run.json")
    assert record.read(path.parent).failure.kind == "RankLost"


HANGING = """
import os, subprocess, sys, time
from paperzoo.runs import rank_watch
rank_watch.GRACE = 0.2
peer = subprocess.Popen([sys.executable, "-c", ""])
watch = rank_watch.RankWatch(lambda line: print("told:", line))
watch.host, watch.rank, watch.peers = "here", 0, {1: ("here", peer.pid)}
import threading
threading.Thread(target=watch._look, daemon=True).start()
time.sleep(60)  # as in a collective that does not return
"""


def test_a_rank_that_hangs_is_ended_by_its_watch(tmp_path):
    script = tmp_path / "hanging.py"
    script.write_text(HANGING)
    done = forked.run(script, timeout=50)
    assert done.returncode == 1
    assert "error: rank 1 (process " in done.stderr
    assert "told: rank 1" in done.stdout


def test_a_loss_that_is_nan_on_one_rank_stops_all(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(NAN_ON_RANK_ONE)
    runs = tmp_path / "runs"
    words = [*WORDS, "logger=none", f"paths.runs_dir={runs}"]
    both = forked.start_ranks(script, *words, ranks=2, logs=tmp_path / "logs")
    output = "".join(process.communicate(timeout=120)[0] for process in both)
    assert [process.returncode for process in both] == [1, 1]
    assert output.count("error: the loss became nan") == 1
    assert "Traceback" not in output
    (path,) = runs.glob("*/*/*/run.json")
    assert record.read(path.parent).failure.kind == "NonFiniteLoss"


NAN_ON_RANK_ONE = """
from paperzoo.config import program
from paperzoo.tasks.classification import ResidualClassifier

step = ResidualClassifier.training_step

def diverging(self, batch, batch_idx):
    if self.global_rank == 1 and self.trainer.global_step == 3:
        batch = batch._replace(inputs=batch.inputs * float("nan"))
    return step(self, batch, batch_idx)

ResidualClassifier.training_step = diverging

@program("train")
def main(config):
    from paperzoo.training import train
    train(config)

main()
"""


def uneven(rank: int, sizes: list[int]) -> list[torch.Tensor]:
    """DDP's gradients of a mean loss over batches of unequal size."""
    torch.manual_seed(0)
    parallel = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 2).double())
    x = torch.randn(sum(sizes), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64).split(sizes)[rank]
    outputs = parallel(x)
    loss = outputs.square().mean() if len(x) else outputs.sum()
    (loss * weight_of_rank(len(x), torch.device("cpu"))).backward()
    return [p.grad for p in parallel.parameters()]


@pytest.mark.parametrize("sizes", [[3, 3], [1, 4], [5, 0], [2, 0, 3]])
def test_the_mean_over_ranks_is_the_mean_over_images(sizes, ranks):
    results = ranks.run(len(sizes), uneven, sizes)
    torch.manual_seed(0)
    alone = torch.nn.Linear(3, 2).double()
    x = torch.randn(sum(sizes), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    alone(x).square().mean().backward()
    for gradients in results:
        for got, expected in zip(gradients, alone.parameters(), strict=True):
            torch.testing.assert_close(got, expected.grad)


def test_unequal_last_batches_train_every_image_on_two_ranks(tmp_path):
    """21 images a step of 16: the last batches are 3 and 2."""
    words = [word.replace("limit_train=96", "limit_train=21") for word in WORDS]
    runs = tmp_path / "runs"
    for process in forked_ranks([*words, "data.drop_last=false", "norm=mabn", "norm.B=8", "logger=none"], runs):
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0, output[-3000:]
    (path,) = runs.glob("*/*/*/run.json")
    state = checkpoints.load(path.parent / "checkpoints" / "last.ckpt")
    assert int(state["state_dict"]["network.bn1.iters"]) == 4


def test_each_rank_keeps_its_own_buffers_of_mabn(tmp_path):
    words = [*WORDS, "norm=mabn", "logger=none", "checkpoint.every_steps=4", "trainer.max_epochs=40"]
    runs = tmp_path / "runs"
    both = forked_ranks(words, runs)
    while not list(runs.glob("*/*/*/checkpoints/state.ckpt.sha256")):
        assert both[0].poll() is None, both[0].communicate()[0]
        time.sleep(0.1)
    both[0].terminate()
    assert [process.wait(60) for process in both] == [143, 143]
    (folder,) = runs.glob("*/*/*/checkpoints")
    first, second = checkpoints.load(folder / "state.ckpt")["rank_buffers"]
    assert first.keys() == second.keys()
    assert all(not torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("words", [["trainer=ddp", "trainer.devices=8", "trainer.num_nodes=2"], ["trainer=cpu"]])
def test_a_dry_run_says_what_each_rank_would_do_and_starts_nothing(words, tmp_path):
    done = forked.run(TRAIN, "model=scnet", *words, "dry_run=true", "norm=sync_batch", f"paths.runs_dir={tmp_path}")
    assert done.returncode == 0
    output = done.stdout
    ranks = 16 if "trainer=ddp" in words else 1
    assert f"samples a step: {64 * ranks:,} (64 on each of {ranks} rank" in output
    assert sum("seed 0, rank" in line for line in output.splitlines()) == ranks
    assert ("torchrun --nnodes=2 --nproc-per-node=8" in output) == (ranks == 16)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "which"), [
    ("model=sync_batch_norm", "over all ranks"), ("model=sync_batch_norm norm=group", "of each rank"),
    ("model=resnet trainer.sync_batchnorm=true", "over all ranks"), ("model=resnet", "of each rank"),
    ("model=resnet norm=layer trainer.sync_batchnorm=true", "of each rank")])  # fmt: skip
def test_a_dry_run_says_whose_statistics_normalise(words, which, capsys):
    show(compose("train", [*words.split(), "trainer=ddp_cpu"]))
    assert f"normalisation: {which}" in capsys.readouterr().out


def test_slurm_jobs_compose():
    overrides = ["model=scnet", "hydra/launcher=submitit_slurm", "hydra.launcher.nodes=2",
                 "hydra.launcher.tasks_per_node=8", "hydra.launcher.gpus_per_node=8"]  # fmt: skip
    with initialize_config_dir(str(CONF), version_base="1.3"):
        launcher = hydra_compose("train", overrides, return_hydra_config=True).hydra.launcher
    assert launcher._target_ == "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
    assert (launcher.nodes, launcher.tasks_per_node, launcher.gpus_per_node) == (2, 8, 8)


@pytest.mark.full
def test_submitit_runs_a_job_of_its_own(tmp_path):
    small = [word for word in WORDS if word != "trainer=ddp_cpu"]
    words = ["-m", *small, "hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "seed=4", "logger=none",
             f"hydra.sweep.dir={tmp_path}/jobs", "trainer=cpu"]  # fmt: skip
    process = started(words, tmp_path)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output[-3000:]
    assert {record.read(path.parent).seed for path in tmp_path.glob("resnet/*/*/run.json")} == {4}
