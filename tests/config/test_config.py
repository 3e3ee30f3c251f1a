"""What composes: every option of every group, experiments, help, completion."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from paperzoo import cards
from paperzoo.config import compose, dump, load_config
from paperzoo.config.groups import OF_OTHERS
from paperzoo.config.messages import CONF, config_groups
from paperzoo.config.schema import Config

TRAIN = Path(__file__).parents[2] / "src" / "train.py"
GROUPS = config_groups()
NEEDS = {
    "weighted": ["sampler.class_weights=[1,2]"],
    "image_folder": ["data.root={photos}"],
    "coco": ["data.root={photos}"],
    "hf": ["data.path=some/dataset"],
}
OPTIONS = [(group, option) for group, options in GROUPS.items() for option in options]


def able(data: str) -> str:
    """A paper that does what a data set is for; scnet where it classifies."""
    task = task_of(data)
    return "scnet" if task == "classification" else next(s for s in cards.slugs() if task in cards.load(s).tasks)


ALONE = dict.fromkeys(("bagging/single", "bagging/member", "bagging/repeated_member"), "resnet")  # without an ensemble
OF_TASKS = {("loss", "task"): "lstm", ("loss", "triplet"): "triplet"}  # choices that no classifier takes


def task_of(data: str) -> str:
    content = yaml.safe_load((CONF / "data" / f"{data}.yaml").read_text())
    bases = [base for base in content.get("defaults", []) if base != "_self_"]
    return content.get("task") or (task_of(bases[0]) if bases else "classification")


def test_groups():
    assert set(GROUPS) == set(Config.model_fields) & set(GROUPS) | set(OF_OTHERS)
    assert GROUPS["model"] == cards.slugs()


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=str)
def test_every_option_composes(group, option, tmp_path, monkeypatch):
    import torch

    from paperzoo import schema

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(schema, "find_spec", lambda package: package)  # a logger's, which comes with an extra
    (tmp_path / "photo").touch()
    words = [word.format(photos=tmp_path) for word in NEEDS.get(option, [])]
    data = option if group == "data" else "mnist5k"
    model = [] if group in ("model", "experiment") else [f"model={OF_TASKS.get((group, option)) or able(data)}"]
    config = compose("train", [*model, f"{group}={option}", *words])
    assert load_config(json.loads(json.dumps(dump(config)))) == config
    if group == "experiment":
        assert config.model.name == ALONE.get(option, option.split("/")[0])
        return
    if group == "augment":
        assert config.data.target == "paperzoo.data.augmented.module.AugmentedImages"
        return
    assert getattr(config, group).name == option


def test_the_command_line_has_the_last_word(train):
    config = train("experiment=resnext/cifar10", "data=mnist5k", "trainer.max_epochs=250", "seed=0").config
    assert (config.data.name, config.trainer.max_epochs, config.seed) == ("mnist5k", 250, 0)
    assert (config.model.name, config.scheduler.milestones, config.optimizer.weight_decay) == (
        "resnext",
        [150, 225],
        5e-4,
    )


def test_options_of_the_command_may_stand_anywhere(train):
    done = train("model=scnet", "--cfg", "job", "seed=3", "--resolve")
    assert done.code == 0
    assert yaml.safe_load(done.out)["seed"] == 3


def test_cfg_job_is_what_would_run(train):
    shown = yaml.safe_load(train("model=res2net", "mix=mixup", "--cfg", "job", "--resolve").out)
    config = train("model=res2net", "mix=mixup").config
    assert load_config(shown) == config
    assert shown["paths"] == {"data_dir": "data", "runs_dir": "runs"}


def test_folders_come_from_the_environment(train, monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_DIR", "/somewhere")
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "elsewhere"))
    paths = train("model=scnet").config.paths
    assert (paths.data_dir, paths.runs_dir) == ("/somewhere", str(tmp_path / "elsewhere"))


def test_several_runs_in_order(train, monkeypatch, tmp_path):
    from paperzoo.config import program

    seen = []
    monkeypatch.setattr(sys, "argv", ["train.py", "model=scnet,resnet", "-m", "seed=0,1"])
    monkeypatch.chdir(tmp_path)
    program("train")(lambda config: seen.append((config.model.name, config.seed)))()
    assert seen == [("scnet", 0), ("scnet", 1), ("resnet", 0), ("resnet", 1)]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]


def test_a_key_of_what_is_swept(monkeypatch, tmp_path):
    from paperzoo.config import program

    seen = []
    monkeypatch.setattr(sys, "argv", ["train.py", "-m", "model=scnet,resnet", "model.width=8", "seed=3"])
    monkeypatch.chdir(tmp_path)
    program("train")(lambda config: seen.append((config.model.name, config.model.width, config.seed)))()
    assert seen == [("scnet", 8, 3), ("resnet", 8, 3)]


@pytest.mark.parametrize("words", [["--help"], ["model=scnet", "-h"]])
def test_help(words, train, tmp_path):
    done = train(*words)
    assert (done.code, done.err) == (0, "")
    for group, options in GROUPS.items():
        assert f"{group}: {', '.join(options)}" in done.out
    assert "python src/train.py model=scnet " in done.out
    assert "Exit codes:" in done.out
    assert 'eval "$(python src/train.py -sc install=bash)"' in done.out
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("mod", {"model="}),
        ("model=res", {"model=resnet", "model=resnext", "model=res2net"}),
        ("trainer=d", {"trainer=ddp", "trainer=ddp_cpu"}),
        ("model=scnet trainer.max", {"trainer.max_epochs=", "trainer.max_steps="}),
        ("model=scnet model.pool", {"model.pooling=", "model.pooling_rate="}),
    ],
)
def test_completion(typed, offered, train, monkeypatch):
    line = f"python train.py {typed}"
    monkeypatch.setenv("COMP_LINE", line)
    monkeypatch.setenv("COMP_POINT", str(len(line)))
    done = train("-sc", "query=bash")
    assert (done.code, done.err) == (0, "")
    assert set(done.out.split()) == offered


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_installed_by_what_help_says(shell, train):
    done = train("-sc", f"install={shell}")
    assert done.code == 0
    assert "-sc query=" in done.out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=done.out, text=True, check=True)


@pytest.mark.parametrize(
    "words", [["--help"], ["model=scnet", "--cfg", "job"], ["model=scnett"], ["model=scnet", "seed=x"]], ids=" ".join
)
def test_answers_at_once_without_torch(words, command, tmp_path):
    spy = tmp_path / "spy.py"
    spy.write_text(
        "import atexit, runpy, sys\n"
        "heavy = ('torch', 'numpy', 'pytorch_lightning', 'timm', 'wandb', 'datasets')\n"
        "atexit.register(lambda: print('HEAVY', *[m for m in heavy if m in sys.modules]))\n"
        f"sys.argv[0] = {str(TRAIN)!r}\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    done = command(*words, program=spy)
    assert done.out.rstrip().splitlines()[-1] == "HEAVY"
    assert [path.name for path in tmp_path.iterdir()] == ["spy.py"]


def test_the_package_imports_no_torch():
    code = (
        "import sys, paperzoo, paperzoo.config, paperzoo.cards, paperzoo.errors, paperzoo.papers\n"
        "print([name for name in ('torch', 'numpy', 'pytorch_lightning') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"


def test_ctrl_c_while_torch_is_imported_leaves_no_traceback(command, tmp_path):
    (tmp_path / "stopped.py").write_text(
        "import sys\n"
        "from paperzoo.config import program\n"
        "def main(config):\n    raise KeyboardInterrupt\n"
        "sys.argv[1:] = ['model=scnet']\n"
        "program('train')(main)()\n"
    )
    done = command(program=tmp_path / "stopped.py")
    assert (done.code, done.out, done.err) == (130, "", "")
