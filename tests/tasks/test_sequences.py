"""Tasks of sequences: metrics against a loop in float64, exact state, and that the adding problem is learned."""

import math
import signal

import pytest
import torch
from composed import compose
from interruption import stopped_by
from torch.nn import functional as F

from paperzoo.data.interface import Batch, make_data
from paperzoo.errors import Interrupted, UserError
from paperzoo.runs import compare
from paperzoo.tasks.making import make_module
from paperzoo.training import train

RUN = ["model=lstm", "trainer=cpu", "logger=none", "model.hidden=8", "trainer.max_epochs=1"]
ADDING = [*RUN, "data=adding_problem", "data.train=64", "data.validation=30", "data.test=30", "data.length=8",
          "data.batch_size=16", "data.eval_batch_size=7"]  # fmt: skip
DIGITS = [*RUN, "data=sequential_mnist", "data.limit_train=64", "data.validation=50", "data.test=50", "data.size=7",
          "data.batch_size=16", "data.eval_batch_size=7"]  # fmt: skip


def made(words, *more):
    config = compose("train", [*words, *more])
    data = make_data(config)
    return make_module(config, data), data


def evaluated(module, data):
    module.double().eval()
    module.mean_losses.set_dtype(torch.float64)
    if hasattr(module, "right"):
        module.right.set_dtype(torch.float64)
    with torch.no_grad():
        for loaded in data.test_dataloader():
            module.evaluate(Batch(loaded.inputs.double(), loaded.targets, loaded.index))
    return module.compute("test")


def answers(module, data):
    """Of each test sequence by itself, step by step."""
    found = []
    for sequence in data.found.inputs["test"].double():
        state = module.network.cells[0].initial_state(1)
        for x in sequence:
            h, state = module.network.cells[0].step(x[None], state)
        found.append(module.network.head(h)[0].detach())
    return torch.stack(found)


@pytest.mark.parametrize("cell", ["lstm", "coupled_peephole", "gru"])
def test_errors_are_those_of_a_loop(cell):
    module, data = made(ADDING, f"model.cell={cell}")
    results = evaluated(module, data)
    given, right = answers(module, data)[:, 0].tolist(), data.found.targets["test"][:, 0].tolist()
    errors = [abs(a - b) for a, b in zip(given, right, strict=True)]
    assert results["mse"] == results["loss"] == pytest.approx(math.fsum(e * e for e in errors) / 30)
    assert results["correct"] == sum(e < 0.04 for e in errors) / 30
    torch.testing.assert_close(module.last[0][:, 0].tolist(), given)


def test_accuracy_is_that_of_a_loop():
    module, data = made(DIGITS)
    results = evaluated(module, data)
    logits, labels = answers(module, data), data.found.targets["test"]
    assert results["top1"] == pytest.approx(sum(int(x.argmax()) == y for x, y in zip(logits, labels, strict=True)) / 50)
    assert results["loss"] == pytest.approx(float(F.cross_entropy(logits, labels)))
    assert int(module.confusion.sum()) == 50


@pytest.mark.parametrize("words", [ADDING, DIGITS])
def test_weighted_sequences(words):
    module, data = made(words)
    module.double()
    module.running = module.make_running()
    loaded = next(iter(data.train_dataloader()))
    weights = torch.arange(16, dtype=torch.float64)
    batch = Batch(loaded.inputs.double(), loaded.targets, loaded.index, weights)
    loss = sum(module.losses(batch).values())
    outputs = module(batch.inputs)
    targets = loaded.targets
    each = [
        F.cross_entropy(outputs[k], targets[k]) if words is DIGITS else (outputs[k, 0] - targets[k, 0]) ** 2
        for k in range(16)
    ]
    torch.testing.assert_close(loss, sum(k * one for k, one in enumerate(each)) / 16)


def test_training_metrics_are_the_batches():
    module, data = made(ADDING)
    module.running = module.make_running()
    squares, right, count = [], 0, 0
    for loaded in data.train_dataloader():
        batch = Batch(loaded.inputs, loaded.targets, loaded.index)
        losses = module.losses(batch)
        module.running.update(sum(losses.values()), losses, len(loaded.index))
        errors = (module(loaded.inputs) - loaded.targets).detach().double()[:, 0]
        squares += errors.square().tolist()
        right += int((errors.abs() < 0.04).sum())
        count += len(errors)
    read = module.running.read()
    assert read["mse"] == pytest.approx(sum(squares) / count, abs=1e-6)
    assert read["loss"] == pytest.approx(sum(squares) / count, rel=1e-5)
    assert read["correct"] == right / count


@pytest.mark.full
@pytest.mark.parametrize("words", [ADDING, DIGITS], ids=["adding", "digits"])
def test_a_run_resumes_equal_and_leaves_its_pictures(words, tmp_path):
    words = [*words, "trainer.max_epochs=2", "model.drop_rate=0.2"]
    alone = train(compose("train", [*words, "pictures=true", f"paths.runs_dir={tmp_path / 'alone'}"]))
    killed = [*words, f"paths.runs_dir={tmp_path / 'killed'}", "resume=auto"]
    with stopped_by(signal.SIGTERM, after_steps=5), pytest.raises(Interrupted):
        train(compose("train", killed))
    resumed = train(compose("train", killed))
    assert [segment.from_step for segment in resumed.segments] == [0, 5]
    assert compare.first_difference(alone, resumed) is None
    names = {path.stem for path in tmp_path.glob("alone/**/*.png")}
    assert ("answers" if words[5] == "data=adding_problem" else "confusion_matrix") in names
    assert {metric.name for metric in alone.task_metrics} >= ({"mse"} if "answers" in names else {"top1"})


@pytest.mark.full
def test_the_adding_problem_is_learned_and_without_marks_it_is_not(tmp_path):
    """Of 10 numbers; a cell that saw no marks could not do better than the sum's variance given all numbers."""
    words = [*ADDING, "data.length=10", "data.train=4000", "data.batch_size=50", "model.hidden=24",
             "trainer.max_epochs=4", "optimizer.lr=0.01", f"paths.runs_dir={tmp_path}"]  # fmt: skip
    entry = train(compose("train", words))
    assert entry.results["last"].metrics["test/mse"] < 1 / 6 / 4


@pytest.mark.parametrize(("words", "line"), [
    ([*ADDING, "model.embedding=4"], "model.embedding=4: is of characters; this data is of numbers, leave it null"),
    (["model=lstm", "data.characters=4000", "model.network=lstm_sequence"],
     "model.network=lstm_sequence: reads numbers, this data is of characters; use lstm_char"),
])  # fmt: skip
def test_networks_of_the_other_task(words, line):
    with pytest.raises(UserError) as caught:
        made(words)
    assert str(caught.value) == line
