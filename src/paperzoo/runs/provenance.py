"""Where a run's code, packages and machine come from."""

import hashlib
import os
import platform
import subprocess
from functools import lru_cache
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import psutil
import torch

from paperzoo.places import CHECKOUT, INSTALLED
from paperzoo.runs.code_version import code_version
from paperzoo.runs.record import Determinism, Provenance

DIFF = "code.diff"


def provenance(code: dict[str, str]) -> Provenance:
    """What can be known of code, packages and machine."""
    commit = _git("rev-parse", "HEAD")
    status = _git("status", "--porcelain", "--untracked-files=no")
    lock = CHECKOUT / "requirements.lock"
    return Provenance(
        code_version=code_version(code),
        code_files=code,
        git_commit=commit.strip() if commit else None,
        git_dirty=bool(status.strip()) if status is not None else None,
        lock_hash=hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() and not INSTALLED else None,
        versions=versions(),
        hardware=hardware(),
    )


@lru_cache
def versions() -> dict[str, str]:
    """Every installed package's version, and Python's; looked up once in a process."""
    found = {dist.name.lower().replace("_", "-"): dist.version for dist in distributions()}
    return {"python": platform.python_version(), **dict(sorted(found.items()))}


def hardware() -> dict[str, Any]:
    """The machine: processor, cores, memory, accelerators, operating system."""
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def determinism() -> Determinism:
    """The flags as they are now in this process."""
    return Determinism(
        algorithms=torch.are_deterministic_algorithms_enabled(),
        cudnn_benchmark=torch.backends.cudnn.benchmark,
        cublas_workspace=os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        threads=torch.get_num_threads(),
    )


def dirty_diff() -> str | None:
    """What the tracked files differ by from the commit, or None outside git."""
    return _git("diff", "HEAD")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _git(*arguments: str) -> str | None:
    if INSTALLED:  # what repository lies around site-packages is another's
        return None
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=CHECKOUT, capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
