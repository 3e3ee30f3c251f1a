"""What must be looked at on GPUs; never run so far, since no machine of the project has one (``make test-gpu``)."""

import signal
from pathlib import Path

import forked
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from composed import compose
from contract import configured, equal_state
from interruption import stopped_by

from paperzoo.errors import Interrupted
from paperzoo.evaluation import evaluate
from paperzoo.norms import SyncBatchNorm, convert
from paperzoo.runs import checkpoints, compare, record
from paperzoo.training import train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
TRAIN = Path(__file__).resolve().parents[2] / "src" / "train.py"
ON_GPU = ["trainer=gpu", "trainer.max_epochs=2"]


@pytest.mark.parametrize("norm", ["batch", "sync_batch", "layer", "group", "instance", "switchable"])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_norms_on_a_gpu_equal_those_on_the_cpu(norm, memory_format):
    torch.manual_seed(0)
    layer = convert(torch.nn.Sequential(torch.nn.BatchNorm2d(8)), norm).double()
    x = torch.randn(4, 8, 6, 5, dtype=torch.float64).contiguous(memory_format=memory_format)
    expected = layer(x)
    got = layer.cuda()(x.cuda())
    torch.testing.assert_close(got.cpu(), expected, rtol=1e-9, atol=1e-9)


def _synchronised(rank: int, world: int, x: torch.Tensor, expected: torch.Tensor) -> None:
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl", init_method="tcp://127.0.0.1:29511", rank=rank, world_size=world)
    layer = SyncBatchNorm(x.shape[1]).double().cuda()
    got = layer(x.tensor_split(world)[rank].cuda())
    torch.testing.assert_close(got.cpu(), expected.tensor_split(world)[rank], rtol=1e-9, atol=1e-9)
    dist.destroy_process_group()


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_synchronised_norm_over_nccl_equals_one_process():
    x = torch.randn(6, 5, 4, 3, dtype=torch.float64)
    expected = torch.nn.BatchNorm2d(5).double()(x).detach()
    mp.spawn(_synchronised, args=(2, x, expected), nprocs=2)


@pytest.mark.parametrize("words", [["trainer.precision=16-mixed"], ["trainer.precision=bf16-mixed"],
                                   ["trainer.channels_last=true"], ["trainer.compile=true"]], ids=str)  # fmt: skip
def test_a_run_trains(words, tmp_path):
    entry = train(configured("resnet", *ON_GPU, *words, runs=tmp_path))
    assert entry.status == "finished"
    assert entry.provenance.hardware["gpus"]
    assert entry.epochs[-1]["train/loss"] < 3


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed"])
def test_two_gpus_with_a_part_each_train_and_leave_a_whole(precision, tmp_path):
    words = ["model=resnet", "model.network=resnet50", "data.limit_train=256", "data.batch_size=16", "logger=none"]
    words += ["trainer=fsdp", "trainer.max_epochs=1", f"trainer.precision={precision}", "trainer.gradient_clip_val=1"]
    done = forked.run(TRAIN, *words, f"paths.runs_dir={tmp_path}", timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    (path,) = tmp_path.glob("*/*/*/run.json")
    entry = record.read(path.parent)
    weights = checkpoints.load(path.parent / "checkpoints" / "last.ckpt")["state_dict"]
    assert sum(value.numel() for name, value in weights.items() if name.endswith(("weight", "bias"))) == (
        entry.cost.parameters
    )
    again = evaluate(compose("evaluate", [f"run={entry.id}", f"paths.runs_dir={tmp_path}"]))
    assert again["test/loss"] == pytest.approx(entry.results["last"].metrics["test/loss"], rel=1e-2)


def test_a_run_resumes_bit_for_bit(tmp_path):
    alone = train(configured("resnet", *ON_GPU, runs=tmp_path / "alone"))
    words = [*ON_GPU, "resume=auto"]
    with stopped_by(signal.SIGTERM, after_steps=6), pytest.raises(Interrupted):
        train(configured("resnet", *words, runs=tmp_path / "stopped"))
    resumed = train(configured("resnet", *words, runs=tmp_path / "stopped"))
    assert compare.first_difference(alone, resumed) is None
    weights = [
        checkpoints.load(tmp_path / name / "resnet" / alone.identity / "1" / "checkpoints" / "last.ckpt")["state_dict"]
        for name in ("alone", "stopped")
    ]
    assert equal_state(*weights)
