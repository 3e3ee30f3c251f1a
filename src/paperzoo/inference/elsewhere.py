"""Run an exported file in a process of its own, without Paperzoo where the file needs none.

    python elsewhere.py <format> <file> <inputs.npz> <outputs.npz>

``inputs.npz`` has the batches in order; ``outputs.npz`` has ``<batch>_<place>`` for each output, and the latency.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

LATENCY = "milliseconds"
WARM, RUNS = 3, 15


def milliseconds(call: Callable[[], Any]) -> float:
    """The median time of a call."""
    taken = []
    for place in range(WARM + RUNS):
        start = time.perf_counter()
        call()
        if place >= WARM:
            taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def function_of(form: str, file: str) -> Callable[[Any], list[Any]]:
    """The file as a function from an array to the arrays that come of it."""
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        return lambda batch: session.run(None, {taken.name: batch})
    import torch
    from torch.utils._pytree import tree_leaves

    if form == "torch_export":
        network: Any = torch.export.load(file).module()
    else:
        import paperzoo

        network = paperzoo.load(file)

    def call(batch: Any) -> list[Any]:
        with torch.no_grad():
            made = tree_leaves(network(torch.from_numpy(batch)))
        return [leaf.numpy() for leaf in made if isinstance(leaf, torch.Tensor)]

    return call


def main(form: str, file: str, given: str, written: str) -> None:
    """See above."""
    if form != "safetensors":
        sys.modules["paperzoo"] = None  # type: ignore[assignment]  # importing it is an error from here on
    import numpy as np

    call = function_of(form, file)
    with np.load(given) as arrays:
        batches = [arrays[name] for name in arrays.files]
    results = {f"{n}_{place}": out for n, batch in enumerate(batches) for place, out in enumerate(call(batch))}
    results[LATENCY] = np.array(milliseconds(lambda: call(batches[0][:1])))
    np.savez(written, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
