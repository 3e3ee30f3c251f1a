"""A network in one file that holds tensors and text, nothing that could run: ``safetensors``.

The text is JSON under the key ``paperzoo``: the configuration that the module is made of, what the data said of
itself, and where the weights are from.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from paperzoo.errors import UserError

SUFFIX = ".safetensors"
KEY = "paperzoo"
FORMAT = 1


def write(path: Path, state: dict[str, Tensor], about: dict[str, Any]) -> None:
    """Write tensors and what they are of."""
    from safetensors.torch import save_file

    text = json.dumps({"format": FORMAT, **about})
    save_file({name: value.detach().cpu().contiguous().clone() for name, value in state.items()}, path, {KEY: text})


def read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What tensors are of, and the tensors.

    Raises:
        UserError: the file is damaged, or was not written by ``export.py``.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: damaged, it cannot be read ({str(error).splitlines()[0]})") from None
    if text is None:
        raise UserError(
            f"{path}: does not say which network it is of; export.py format=safetensors writes files that do"
        )
    about = json.loads(text)
    if about.get("format") != FORMAT:
        raise UserError(f"{path}: is of format {about.get('format')}, this Paperzoo reads {FORMAT}")
    return about, state
