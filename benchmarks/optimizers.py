"""What an optimiser's step costs in its fused form, which Paperzoo uses, and in torch's other two.

    python benchmarks/optimizers.py [repeats]

Prints milliseconds of ``step`` for SGD with momentum and AdamW on ResNet-18 and ResNet-50, interleaved.
"""

import statistics
import sys
import time

import timm
import torch

FORMS = {"one tensor at a time": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
OPTIMIZERS = {
    "SGD": lambda parameters, **form: torch.optim.SGD(parameters, 1e-6, momentum=0.9, nesterov=True, **form),
    "AdamW": lambda parameters, **form: torch.optim.AdamW(parameters, 1e-6, **form),
}


def milliseconds(optimizer: torch.optim.Optimizer, steps: int = 5) -> float:
    """Of one step."""
    start = time.perf_counter()
    for _ in range(steps):
        optimizer.step()
    return 1000 * (time.perf_counter() - start) / steps


def measure(network_name: str, repeats: int) -> None:
    """Interleave the forms and print."""
    parameters = list(timm.create_model(network_name).parameters())
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter)
    for name, make in OPTIMIZERS.items():
        optimizers = {form: make(parameters, weight_decay=1e-4, **options) for form, options in FORMS.items()}
        rounds = [{form: milliseconds(o) for form, o in optimizers.items()} for _ in range(repeats + 1)][1:]
        print(f"{network_name}, {name}, {repeats} repeats, {torch.get_num_threads()} threads")
        for form in FORMS:
            values = [each[form] for each in rounds]
            print(f"  {form:20s} {statistics.median(values):7.2f} ms ({min(values):.2f} to {max(values):.2f})")


if __name__ == "__main__":
    for network in ("resnet18", "resnet50"):
        measure(network, int(sys.argv[1]) if len(sys.argv) > 1 else 5)
