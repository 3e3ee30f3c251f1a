"""The language task: its metrics against one naive pass, and a carried state that survives a kill."""

import math
import signal

import pytest
import torch
from composed import compose
from interruption import stopped_by
from torch.nn import functional as F

from paperzoo.data.interface import Batch, make_data
from paperzoo.errors import Interrupted
from paperzoo.runs import checkpoints, compare, record
from paperzoo.tasks.language import Carried
from paperzoo.tasks.making import make_module
from paperzoo.training import train

SMALL = ["model=lstm", "trainer=cpu", "trainer.max_epochs=1", "logger=none", "data.characters=4000", "data.length=16",
         "data.batch_size=8", "data.eval_streams=3", "data.eval_batch_size=2", "model.hidden=12", "model.embedding=6",
         "scheduler.warmup_epochs=0"]  # fmt: skip


def configured(*words, runs=None):
    return compose("train", [*SMALL, *words, *([f"paths.runs_dir={runs}"] if runs else [])])


def made(*words):
    config = configured(*words)
    data = make_data(config)
    return make_module(config, data), data


def given(data, chunks):
    return data.on_after_batch_transfer(chunks, 0)


def test_a_row_goes_on_only_after_its_own_last_chunk():
    carried = Carried()
    assert carried.before(torch.tensor([0, 8])) is None
    state = [(torch.ones(2, 3), 2 * torch.ones(2, 3)), torch.full((2, 3), 3.0, requires_grad=True)]
    carried.after(torch.tensor([0, 8]), state)
    (h, c), g = carried.before(torch.tensor([1, 12]))
    for part, value in ((h, 1), (c, 2), (g, 3)):
        assert part.tolist() == [[value] * 3, [0] * 3]
        assert not part.requires_grad
    assert not any(part.any() for part in carried.before(torch.tensor([8, 0]))[0])
    assert carried.before(torch.tensor([1])) is None  # another number of rows
    again = Carried()
    again.load_state_dict(carried.state_dict(), torch.device("cpu"))
    torch.testing.assert_close(again.before(torch.tensor([1, 9])), carried.before(torch.tensor([1, 9])))


@pytest.mark.parametrize("cell", ["lstm", "coupled_peephole", "gru"])
def test_metrics_are_those_of_a_naive_pass_over_each_stream(cell):
    module, data = made(f"model.cell={cell}", "model.layers=2")
    module.double().eval()
    module.mean_losses.set_dtype(torch.float64)
    with torch.no_grad():
        for chunks in data.val_dataloader():
            module.evaluate(given(data, chunks))
        found = module.compute("val")
        text, bits = data.parts["val"], []
        size = -(-(len(text) - 1) // 3)
        for start in range(0, len(text) - 1, size):
            state = None
            for place in range(start, min(start + size, len(text) - 1)):
                logits, state = module(text[place].view(1, 1), state)
                bits.append(-float(logits[0, 0].log_softmax(0)[text[place + 1]]) / math.log(2))
    assert len(bits) == len(text) - 1
    assert found["bpc"] == pytest.approx(sum(bits) / len(bits), rel=1e-9)
    assert found["perplexity"] == pytest.approx(2 ** (sum(bits) / len(bits)), rel=1e-9)
    assert found["loss"] == pytest.approx(found["bpc"] * math.log(2))


def begin(module):
    """As Lightning begins: optimiser and schedule are there."""
    optimizer = torch.optim.SGD(module.double().parameters(), lr=1.0)
    module.schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: 1.0)
    module.on_train_start()


def test_training_batches_see_what_an_unbroken_stream_sees_and_gradients_end_with_the_chunk():
    module, data = made()
    begin(module)
    loader = data.train_dataloader()
    batches = [given(data, chunks) for chunks in list(loader)[:3]]
    whole = torch.cat([batch.inputs for batch in batches], dim=1)
    targets = torch.cat([batch.targets for batch in batches], dim=1)
    expected = F.cross_entropy(module(whole)[0].transpose(1, 2), targets, reduction="none")  # (B, 3T)
    for batch, part in zip(batches, expected.split(16, dim=1), strict=True):
        before = module.training_state.before(batch.index)
        loss = module.losses(batch)["loss"]
        torch.testing.assert_close(loss, part.mean())
        alone = F.cross_entropy(module(batch.inputs, before)[0].transpose(1, 2), batch.targets)
        parameters = list(module.network.parameters())
        torch.testing.assert_close(torch.autograd.grad(loss, parameters), torch.autograd.grad(alone, parameters))


def test_running_metrics_are_of_cross_entropy_whatever_is_trained_on():
    module, data = made("loss=label_smoothing")
    begin(module)
    batch = given(data, next(iter(data.train_dataloader())))
    losses = module.losses(batch)
    module.running.update(losses["loss"], losses, module.units(batch))
    row = module.running.read()
    nats = F.cross_entropy(module(batch.inputs)[0].transpose(1, 2), batch.targets).detach()
    assert row["bpc"] == pytest.approx(float(nats) / math.log(2), rel=1e-6)
    smoothed = F.cross_entropy(module(batch.inputs)[0].transpose(1, 2), batch.targets, label_smoothing=0.1)
    assert row["loss"] == pytest.approx(float(smoothed.detach()))


def test_weights_of_samples_weigh_chunks():
    module, data = made()
    begin(module)
    batch = given(data, next(iter(data.train_dataloader())))
    weights = torch.arange(8).double()
    each = F.cross_entropy(module(batch.inputs)[0].transpose(1, 2), batch.targets, reduction="none").mean(1)
    found = module.losses(Batch(batch.inputs, batch.targets, batch.index, weights))["loss"]
    torch.testing.assert_close(found, (weights * each).sum() / 8)


@pytest.mark.parametrize(("cell", "sampler"), [("lstm", "streams"), ("peephole", "streams"), ("gru", "shuffled")])
def test_a_run_that_was_killed_within_an_epoch_resumes_equal(cell, sampler, tmp_path):
    words = [f"model.cell={cell}", f"sampler={sampler}", "trainer.max_epochs=2", "model.drop_rate=0.1"]
    alone = train(configured(*words, runs=tmp_path / "alone"))
    with stopped_by(signal.SIGTERM, after_steps=37), pytest.raises(Interrupted):
        train(configured(*words, "resume=auto", runs=tmp_path / "stopped"))
    (folder,) = (tmp_path / "stopped").glob("lstm/*/1")
    state = checkpoints.load(checkpoints.newest_state(folder))
    assert state["carried"][0]["chunk"].shape == (8,)
    resumed = train(configured(*words, "resume=auto", runs=tmp_path / "stopped"))
    assert [segment.from_step for segment in resumed.segments] == [0, 37]
    assert compare.first_difference(alone, resumed) is None
    weights = [checkpoints.load(root / "lstm" / alone.identity / "1" / "checkpoints" / "last.ckpt")["state_dict"]
               for root in (tmp_path / "alone", tmp_path / "stopped")]  # fmt: skip
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_a_run_learns_records_its_unit_and_leaves_a_text_and_a_picture(tmp_path, capsys):
    done = train(configured("trainer.max_epochs=6", "optimizer.lr=0.02", "pictures=true", runs=tmp_path))
    (folder,) = tmp_path.glob("lstm/*/1")
    entry = record.read(folder)
    assert entry.unit == "character"
    assert [(metric.name, metric.goal) for metric in entry.task_metrics] == [("bpc", "min"), ("perplexity", "min")]
    rows = done.epochs
    assert rows[-1]["val/bpc"] < rows[0]["val/bpc"] < math.log2(41) + 0.5
    assert rows[-1]["characters_per_second"] > 0
    assert done.results["last"].metrics["test/bpc"] == pytest.approx(rows[-1]["val/bpc"], abs=0.5)
    text = (folder / "sample.txt").read_text()
    assert len(text) == 401
    assert text in capsys.readouterr().out + "\n"
    assert (folder / "figures" / "gates.png").stat().st_size > 10_000


def test_a_sampled_text_repeats_and_follows_what_it_begins_with():
    module, _ = made()
    text = module.sample(30, begin="The fox ")
    assert len(text) == 38
    assert text == module.sample(30, begin="The fox ")
    assert text.startswith("The fox ")
    assert set(module.sample(200, temperature=0.01)) <= set(module.vocabulary)
    with pytest.raises(ValueError, match="'#' is not in the vocabulary"):
        module.sample(3, begin="a#")
