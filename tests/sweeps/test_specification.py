"""Sweep files: W&B's format as W&B reads it, and mistakes that are one line."""

import math
from pathlib import Path

import pytest
import yaml
from scipy import stats

from paperzoo.errors import UserError
from paperzoo.sweeps import lint
from paperzoo.sweeps.command import command
from paperzoo.sweeps.search import at, cell_of
from paperzoo.sweeps.specification import Parameter, Sweep, read

GOOD = {
    "program": "src/train.py",
    "method": "grid",
    "metric": {"name": "test/top1", "goal": "maximize"},
    "parameters": {"model": {"values": ["resnet", "scnet"]}, "seed": {"values": [0, 1]}, "data": {"value": "mnist5k"}},
    "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
}


def write(folder: Path, **changes: object) -> Path:
    """A sweep file with something changed."""
    path = folder / "question.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in (GOOD | changes).items() if value is not None}))
    return path


def with_parameters(**parameters: object) -> dict[str, object]:
    """The good file's parameters and others."""
    return {"parameters": GOOD["parameters"] | {key.replace("__", "."): value for key, value in parameters.items()}}  # type: ignore[operator]


def test_a_grid_is_all_combinations_the_last_parameter_fastest(tmp_path: Path) -> None:
    sweep = lint.check(write(tmp_path))
    assert sweep.name == "question"
    assert [(cell["model"], cell["seed"]) for cell in sweep.cells()] == [
        ("resnet", 0), ("resnet", 1), ("scnet", 0), ("scnet", 1),
    ]  # fmt: skip
    assert sweep.varying == ["model"]
    assert sweep.variant(sweep.cells()[2]) == {"model": "scnet"}
    assert len(read(write(tmp_path, run_cap=3)).cells()) == 3


FORMS = ["${args_no_hyphens}", "${args}", "${args_append_hydra}", "${args_override_hydra}"]


@pytest.mark.parametrize("form", FORMS)
def test_the_command_is_the_one_that_wandb_s_agent_builds(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args

    monkeypatch.setenv("WIDTH", "8")
    monkeypatch.delenv("NOWHERE", raising=False)
    cell = {"model": "scnet", "lr": 1e-05, "on": True, "off": False, "list": [1, 2.5], "text": "a b", "none": None}
    words = ["${env}", "${interpreter}", "-u", "${program}", form, "w=${envvar:WIDTH}", "n=${envvar:NOWHERE}", 3]
    sweep = Sweep.model_validate({**GOOD, "command": words, "parameters": {"model": {"value": "scnet"}}})
    theirs: dict[str, list[str]] = create_sweep_command_args({"args": {k: {"value": v} for k, v in cell.items()}})
    theirs |= {"interpreter": ["python"], "program": [sweep.program], "env": ["/usr/bin/env"]}
    expected = []
    for part in map(str, create_sweep_command(list(words))):
        expected += theirs[part[2:-1]] if part.startswith("${") and part.endswith("}") else [part]
    assert command(sweep, cell) == expected


MISTAKES = [
    ({"program": None}, "program: is missing"),
    ({"method": "hyperband"}, "method: Input should be 'grid', 'random' or 'bayes', got 'hyperband'"),
    ({"parameter": {}}, "parameter: there is no such key", "did you mean parameters?"),
    ({"parameters": {}}, "parameters: "),
    ({"metric": {"nam": "x"}}, "metric.name: is missing"),
    ({"metric": {"name": "val/top1", "goal": "max"}}, "metric.goal: Input should be 'minimize' or 'maximize'"),
    ({"run_cap": 0}, "run_cap: Input should be greater than or equal to 1, got 0"),
    ({"method": "bayes", "metric": None}, "method bayes needs metric"),
    ({"early_terminate": {"type": "hyperband"}}, "early_terminate: hyperband needs min_iter, or max_iter with s"),
    ({"early_terminate": {"type": "median"}}, "early_terminate.type: Input should be 'hyperband'"),
    (with_parameters(optimizer={"parameters": {"lr": {"value": 1}}}), "write dotted keys, such as optimizer.lr"),
    (with_parameters(optimizer__lr={"min": 0.1, "max": 1.0}), "optimizer.lr: method grid needs value or values"),
    (with_parameters(optimizer__lr={"valeus": [1]}), "parameters.optimizer.lr.valeus: ", "did you mean values?"),
    (with_parameters(optimizer__lr={"values": []}), "parameters.optimizer.lr.values: "),
    (with_parameters(optimizer__lr={"value": 1, "values": [1]}), "needs exactly one of value, values"),
    (with_parameters(optimizer__lr={}), "needs exactly one of value, values"),
    (with_parameters(optimizer__lr={"min": 1, "max": 0.5}), "needs min below max, got 1 and 0.5"),
    (with_parameters(optimizer__lr={"distribution": "beta"}), "parameters.optimizer.lr.distribution: "),
    (with_parameters(optimizer__lr={"min": 0, "max": 1, "distribution": "log_uniform_values"}), "needs min above 0"),
    (with_parameters(seed={"values": [0, 1], "probabilities": [0.5, 0.2]}), "must sum to 1, got 0.7"),
    ({"command": None}, "command: must hold ${args_no_hyphens}"),
    ({"command": ["python", "${args_no_hyphens}"]}, "command: must hold ${program}"),
    ({"program": "train.py"}, "program: train.py is not there"),
    (with_parameters(resume={"value": None}), "parameters.resume: null becomes the word None"),
    (with_parameters(tags={"values": ["a,b"]}), "parameters.tags: 'a,b': Hydra reads tags=a,b as several values"),
    (with_parameters(tags={"value": "it's"}), 'parameters.tags: "it\'s": Hydra cannot read'),
    (with_parameters(model={"value": {"name": "scnet"}}), "parameters.model: a mapping does not reach Hydra"),
    (with_parameters(seed={"values": [0, 0]}), "parameters.seed: a value is there twice"),
    (with_parameters(model={"values": ["scnet", "scnett"]}), "scnett", "Did you mean scnet?"),
    (with_parameters(optimiser__lr={"value": 0.1}), "optimiser.lr", "Did you mean optimizer"),
    (with_parameters(trainer__max_epochs={"values": [1, 0]}), "trainer.max_epochs=0"),
    (with_parameters(optimizer__lr={"min": "1e-3", "max": 1.0}), "optimizer.lr.min", "got '1e-3'"),  # YAML's text
    (with_parameters(optimizer__lr={"min": float("-inf"), "max": 1.0}), "optimizer.lr.min", "finite number"),
    (with_parameters(optimizer__lr={"min": 0.1, "max": 1.0, "q": 0.1}), "distribution uniform takes no q"),
    (with_parameters(optimizer__lr={"value": 0.1, "sigma": 1.0}), "distribution constant takes no sigma"),
    ({"early_terminate": {"type": "hyperband", "min_iter": 3, "max_iter": 2}}, "min_iter of at most max_iter, got 3"),
    ({"command": ["${program}", "${args_no_hyphens}", "${interpretr}"]}, "command: ${interpretr}: there is no such"),
    ({"parameters": {True: {"value": 1}}}, "parameters: the key True is no text; write it in quotes"),
    ({"run_cap": "3"}, "run_cap: Input should be a valid integer, got '3'"),
    ({"metric": {"name": "accuracy"}}, "metric.name: accuracy is logged by no run"),
    (
        {"metric": {"name": "val/top", "goal": "maximize"}},
        "metric.name: val/top is logged by no run of resnet, there "
        "are val/top1, val/top5, val/ece, val/loss; did you mean val/top5?",
    ),
    (
        {"metric": {"name": "best/test/acc"}},
        "metric.name: best/test/acc is logged by no run of resnet, there are test/",
    ),
    (
        {"metric": {"name": "val/top1"}},
        "metric.goal: minimize (W&B's default), but higher is better of val/top1; write goal: maximize",
    ),
    ({"metric": {"name": "val/loss", "goal": "maximize"}}, "metric.goal: maximize, but lower is better of val/loss"),
    ({"method": "bayes", "metric": {"name": "test/top1"}}, "validation chooses, use val/..."),
]


@pytest.mark.parametrize(("changes", "parts"), [(first, rest) for first, *rest in MISTAKES])
def test_a_mistake_is_one_line(tmp_path: Path, changes: dict[str, object], parts: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        lint.check(write(tmp_path, **changes))
    text = str(caught.value)
    assert "\n" not in text.partition("; paste these lines:\n")[0]
    assert text.startswith(str(tmp_path / "question.yaml") + ": ")
    for part in parts:
        assert part in text


def test_a_metric_is_not_near_another_because_both_are_of_validation(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"val/acc is logged by no run of resnet, there are val/top1, .*, val/loss$"):
        lint.check(write(tmp_path, metric={"name": "val/acc", "goal": "maximize"}))


def test_a_sweep_without_a_command_shows_the_lines_that_it_lacks(tmp_path: Path) -> None:
    path = write(tmp_path, command=None)
    with pytest.raises(UserError) as caught:
        lint.check(path)
    lines = str(caught.value).partition("paste these lines:\n")[2]
    path.write_text(f"{path.read_text()}{lines}\n")
    assert lint.check(path).command == GOOD["command"]


@pytest.mark.parametrize("good", ["val/loss", "best/test/ece", "train/loss_aux", "test/norm/x"])
def test_a_metric_that_runs_log_is_no_finding(tmp_path: Path, good: str) -> None:
    assert lint.check(write(tmp_path, metric={"name": good, "goal": "minimize"}))


@pytest.mark.parametrize("word", ["yes", "no", "on", "off", "Yes", "NO"])
def test_a_word_that_yaml_reads_as_a_boolean_is_found(tmp_path: Path, word: str) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text() + f"description: {word}\n")
    with pytest.raises(UserError, match="description: Input should be a valid string"):
        lint.check(path)
    path = write(tmp_path)
    path.write_text(path.read_text().replace("seed:", f"deterministic:\n    value: {word}\n  seed:", 1))
    with pytest.raises(UserError, match=f"YAML reads {word} as a boolean"):
        lint.check(path)


def test_a_key_that_stands_twice_is_found(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("  seed:", "  model:\n    value: senet\n  seed:", 1))
    with pytest.raises(UserError, match=r"not YAML \(the key model is there twice .* line \d+"):
        read(path)


def test_a_file_that_is_no_sweep_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    with pytest.raises(UserError, match="cannot be read"):
        read(path)
    path.write_text("a: [")
    with pytest.raises(UserError, match="not YAML"):
        read(path)
    path.write_text("- a")
    with pytest.raises(UserError, match="has keys such as program"):
        read(path)


def test_every_published_sweep_is_without_findings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In short; `make sweeps`, which is in `make check`, composes up to 200 runs of each."""
    monkeypatch.setattr(lint, "COMPOSED", 3)
    files = sorted(str(path) for path in Path("sweeps").glob("*.yaml"))
    assert files
    assert lint.main(files) == 0, capsys.readouterr().err


# the quantiles of W&B's distributions against SciPy's
QUANTILES = [
    ({"min": 1, "max": 4}, [1, 2, 3, 4, 4], None),
    ({"min": 0.0, "max": 4.0}, None, stats.uniform(0, 4)),
    ({"min": 1e-4, "max": 1e-1, "distribution": "log_uniform_values"}, None, stats.loguniform(1e-4, 1e-1)),
    ({"min": -9.0, "max": -2.0, "distribution": "log_uniform"}, None, stats.loguniform(math.exp(-9), math.exp(-2))),
    ({"mu": 1.0, "sigma": 2.0}, None, stats.norm(1, 2)),
    ({"mu": 1.0, "sigma": 2.0, "distribution": "log_normal"}, None, stats.lognorm(2, scale=math.e)),
]  # fmt: skip


@pytest.mark.parametrize(("given", "values", "law"), QUANTILES)
def test_a_distribution_has_its_quantiles(given: dict[str, object], values: list[int] | None, law: object) -> None:
    parameter = Parameter.model_validate(given)
    if values:
        assert [at(parameter, u) for u in (0.0, 0.25, 0.5, 0.75, 1.0)] == values
        return
    for u in (0.01, 0.25, 0.5, 0.9):
        assert at(parameter, u) == pytest.approx(law.ppf(u), rel=1e-9)  # type: ignore[attr-defined]


def test_an_inverse_logarithmic_distribution_is_uniform_in_the_logarithm_of_the_inverse() -> None:
    parameter = Parameter(min=0.1, max=10, distribution="inv_log_uniform_values")
    assert [at(parameter, u) for u in (0.0, 0.5, 1.0)] == pytest.approx([10, 1, 0.1])


def test_quantised_values_are_multiples() -> None:
    parameter = Parameter(min=10, max=100, q=8, distribution="q_uniform")
    drawn = [at(parameter, u / 20) for u in range(21)]
    assert all(isinstance(value, int) and value % 8 == 0 for value in drawn)
    assert at(Parameter(min=0.0, max=1.0, q=0.25, distribution="q_uniform"), 0.6) == 0.5


def test_probabilities_are_shares_of_the_unit_interval() -> None:
    parameter = Parameter(values=["a", "b", "c"], probabilities=[0.2, 0.0, 0.8])
    assert [at(parameter, u) for u in (0.0, 0.19, 0.21, 0.99, 1.0)] == ["a", "a", "c", "c", "c"]
    sweep = Sweep.model_validate(
        {**GOOD, "method": "random", "parameters": {"x": {"values": ["a", "b"]}, "y": {"min": 0.0, "max": 2.0}}}
    )
    assert cell_of(sweep, {"x": 1, "y": 0.25}) == {"x": "b", "y": 0.5}
