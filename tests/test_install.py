"""A wheel of the package, in an environment of its own, outside the checkout: what a user of ``pip install .`` has.

The environment sees the packages that are installed here, but not this checkout.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from paperzoo.runs import folders, record

pytestmark = pytest.mark.full

ROOT = Path(__file__).resolve().parents[1]
SMALL = ["model=scnet", "model.depth=11", "model.width=4", "data.limit_train=128", "data.batch_size=32",
         "data.validation=50", "data.test=50", "trainer=cpu", "trainer.threads=1", "trainer.max_epochs=1",
         "logger=none"]  # fmt: skip


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The programs of an environment into which a wheel was installed."""
    room = tmp_path_factory.mktemp("install")
    source = room / "source"
    for name in ("src", "conf"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def call(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=room, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(room), str(source)]
    call(*pip, *build)
    (wheel,) = room.glob("*.whl")
    shutil.rmtree(source)
    call(sys.executable, "-m", "venv", "--without-pip", str(room / "env"))
    python = room / "env" / "bin" / "python"
    own = call(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))")
    others = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    (Path(own) / "others.pth").write_text("\n".join(others) + "\n")  # added as they are: no editable install of theirs
    call(*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    return python.parent


def environment_of(installed: Path) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "RUNS_DIR")}
    return environment | {"OMP_NUM_THREADS": "1", "COLUMNS": "160", "PATH": f"{installed}:{os.environ['PATH']}"}


def run(installed: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    words, options = [str(installed / command[0]), *command[1:]], {"capture_output": True, "text": True}
    return subprocess.run(words, cwd=cwd, env=environment_of(installed), timeout=300, check=False, **options)


SERVER = f"""
import sys
sys.path.append({str(ROOT / "tests" / "helpers")!r})
import json, pathlib, forked
for line in sys.stdin:
    words, cwd, environment = json.loads(line)
    done = forked.run(*map(pathlib.Path, words[:1]), *words[1:], env=environment, cwd=pathlib.Path(cwd), timeout=300)
    print(json.dumps([done.returncode, done.stdout, done.stderr]), flush=True)
"""


@pytest.fixture(scope="module")
def warm(installed, tmp_path_factory):
    """As ``run``, in forks of one process of the environment, whose imports take most of a command's time."""
    environment = environment_of(installed)
    cwd = tmp_path_factory.mktemp("server")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    server = subprocess.Popen([installed / "python", "-c", SERVER], env=environment, cwd=cwd, **pipes)

    def call(cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
        words = [str(installed / command[0]), *command[1:]]
        server.stdin.write(json.dumps([words, str(cwd), environment]) + "\n")
        server.stdin.flush()
        return subprocess.CompletedProcess(words, *json.loads(server.stdout.readline()))

    yield call
    server.stdin.close()
    server.wait(30)


@pytest.fixture(scope="module")
def trained(installed, tmp_path_factory) -> Path:
    """A folder in which ``paperzoo train`` was called."""
    cwd = tmp_path_factory.mktemp("elsewhere")
    done = run(installed, cwd, "paperzoo", "train", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "paperzoo evaluate run=" in done.stdout
    assert "python src/" not in done.stdout
    return cwd


def entry_of(cwd: Path) -> record.Record:
    return record.read(next(folders.all_folders(cwd / "runs")))


def test_train_evaluate_runs_predict_export(warm, trained):
    entry = entry_of(trained)
    assert entry.status == "finished"
    assert entry.provenance.git_commit is None
    assert "paperzoo/papers/scnet/network.py" in entry.provenance.code_files
    done = warm(trained, "paperzoo", "evaluate", entry.id)
    assert done.returncode == 0, done.stderr
    assert "every metric equals the record, bit for bit" in done.stdout
    assert entry.id in warm(trained, "paperzoo", "runs").stdout
    Image.fromarray(np.zeros((28, 28), np.uint8)).save(trained / "photo.png")
    done = warm(trained, "paperzoo", "predict", f"run={entry.id}", "photo.png")
    assert done.returncode == 0, done.stderr
    assert (trained / "predictions" / "predictions.csv").read_text().count("photo.png") == 5
    done = warm(trained, "paperzoo", "export", f"run={entry.id}", "format=safetensors", "out=net.safetensors")
    assert done.returncode == 0, done.stderr
    (trained / "compare.py").write_text(
        "import paperzoo, torch, json; a = paperzoo.load('net.safetensors'); "
        f"b = paperzoo.load('runs/scnet/{entry.identity}/1'); x = a.transform('photo.png')[None]; "
        "print(json.dumps([torch.equal(a(x), b(x)), paperzoo.__file__]))"
    )
    done = warm(trained, str(trained / "compare.py"))
    equal, file = json.loads(done.stdout)
    assert equal
    assert str(ROOT) not in file


def test_its_code_version_is_the_checkouts(installed, trained):
    """So that a run of an installed package and one of a checkout have one identity."""
    from paperzoo.config import compose
    from paperzoo.runs.identity import code_of

    assert entry_of(trained).provenance.code_files == code_of(compose("train", SMALL))


def test_two_ranks_are_started(installed, tmp_path):
    words = [word for word in SMALL if word != "trainer=cpu"]
    done = run(installed, tmp_path, "paperzoo", "train", *words, "trainer=ddp_cpu", "trainer.devices=2")
    assert done.returncode == 0, done.stderr
    assert (entry_of(tmp_path).ranks, entry_of(tmp_path).status) == (2, "finished")


def test_timm_has_the_networks(warm, tmp_path):
    script = "import paperzoo, timm; print(sum(p.numel() for p in timm.create_model('scnet50').parameters()))"
    (tmp_path / "count.py").write_text(script)
    done = warm(tmp_path, str(tmp_path / "count.py"))
    assert done.stdout.strip() == "25564584", done.stderr


def test_a_mistake_is_one_line_that_names_commands_as_they_are_called(installed, tmp_path):
    for words, line in (
        (["trian"], "error: trian: there is no such command; commands: train, evaluate, predict"),
        (["evaluate", "1234"], "`paperzoo runs` lists them"),
        (["predict"], "which photos? paperzoo predict run=<id> photos/"),
        (["train", "model=scnett"], "there is no such model"),
    ):
        done = run(installed, tmp_path, "paperzoo", *words)
        assert done.returncode == 2
        assert line in done.stderr
        assert done.stderr.count("\n") == 1
    assert "paperzoo train model=scnet " in run(installed, tmp_path, "paperzoo", "train", "--help").stdout
    assert "paperzoo zoo" in run(installed, tmp_path, "paperzoo", "zoo", "--help").stdout
    assert run(installed, tmp_path, "paperzoo", "--help").returncode == 0


def test_the_zoo_and_a_sweep(warm, tmp_path):
    shown = warm(tmp_path, "paperzoo", "zoo", "scnet")
    assert "Self-Calibrated" in shown.stdout
    sweep = {
        "program": "src/train.py", "method": "grid", "name": "x", "description": "Does it run?",
        "metric": {"name": "test/top1", "goal": "maximize"},
        "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
        "parameters": {
            "model": {"value": "resnet"}, "seed": {"values": [0]},
            **{key: {"value": _plain(value)} for key, _, value in (word.partition("=") for word in SMALL[1:])},
        },
    }  # fmt: skip
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "x.yaml").write_text(json.dumps(sweep))
    done = warm(tmp_path, "paperzoo", "sweep", "sweeps/x.yaml", "agents=1")
    assert done.returncode == 0, done.stdout + done.stderr
    entries = [record.read(folder) for folder in folders.all_folders(tmp_path / "runs")]
    assert [(entry.seed, entry.status) for entry in entries] == [(0, "finished")]


def _plain(word: str) -> object:
    return int(word) if word.isdigit() else word
