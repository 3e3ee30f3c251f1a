"""The command line, in this process and in one of its own."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from paperzoo.config import program
from paperzoo.config.schema import Config

TRAIN = Path(__file__).parents[2] / "src" / "train.py"


@dataclass
class Outcome:
    """What a command left."""

    code: int
    out: str
    err: str
    seconds: float = 0.0
    config: Config | None = None  # what would have run


@pytest.fixture
def train(monkeypatch, capsys, tmp_path) -> Callable[..., Outcome]:
    """``train("model=scnet", ...)``: train.py's command line up to the training, in an empty folder, without torch."""
    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # the program sets it
    monkeypatch.chdir(tmp_path)

    def run(*words: str, torch: bool = False) -> Outcome:
        ran = []
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [str(TRAIN), *words])
            for name in () if torch else ("torch", "numpy", "pytorch_lightning"):
                patch.setitem(sys.modules, name, None)  # importing it fails
            code = 0
            try:
                program("train")(ran.append)()
            except SystemExit as end:
                code = end.code
            finally:
                GlobalHydra.instance().clear()
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err, config=ran[-1] if ran else None)

    return run


@pytest.fixture
def command(tmp_path) -> Callable[..., Outcome]:
    """``command("model=scnett")``: train.py in a process of its own, in an empty folder."""

    def run(*words: str, program: Path = TRAIN, env: dict[str, str] | None = None) -> Outcome:
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, str(program), *words],
            cwd=tmp_path,
            env=env,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return Outcome(done.returncode, done.stdout, done.stderr, time.monotonic() - begun)

    return run
