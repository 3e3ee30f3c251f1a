"""What the container files install. They are built where there is a container runtime; the list is checked here."""

import re
import subprocess
import sys

from paperzoo.places import CONF

ROOT = CONF.parent


def listed(*words: str) -> str:
    program = ROOT / "containers" / "without_cuda.py"
    return subprocess.run(
        [sys.executable, program, ROOT / "requirements.lock", *words], capture_output=True, text=True, check=True
    ).stdout


def test_the_cpu_list_is_the_lock_without_cuda_and_torch():
    names = re.compile(r"^([A-Za-z0-9._-]+)==", re.MULTILINE)
    whole = set(names.findall((ROOT / "requirements.lock").read_text()))
    left = set(names.findall(listed()))
    gone = whole - left
    assert {"torch", "torchvision"} < gone
    assert all(re.match(r"torch$|torchvision$|nvidia-|cuda-|triton$", name) for name in gone)
    assert {"torchmetrics", "pytorch-lightning", "hydra-core"} < left
    pins = listed("torch").split()
    assert [pin.split("==")[0] for pin in pins] == ["torch", "torchvision"]
    assert all(f"{pin} " in (ROOT / "requirements.lock").read_text() for pin in pins)
