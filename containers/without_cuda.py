"""The lock without torch and what only CUDA needs; with ``torch`` as second word, torch's own pins.

python without_cuda.py requirements.lock [torch]
"""

import re
import sys
from pathlib import Path

OWN = r"(torch|torchvision)=="
CUDA = r"(nvidia-|cuda-|triton)"


def entries(lock: str) -> list[str]:
    """Each requirement with its hashes and comments."""
    return re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]


def main(path: str, *what: str) -> None:
    """Print what is asked for."""
    found = entries(Path(path).read_text())
    if what:
        print(" ".join(entry.split()[0] for entry in found if re.match(OWN, entry)))
    else:
        print("".join(entry for entry in found if not re.match(f"{OWN}|{CUDA}", entry)), end="")


if __name__ == "__main__":
    main(*sys.argv[1:])
