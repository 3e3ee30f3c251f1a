"""Keeping parts of a network as they are while the rest is trained."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn

from paperzoo.errors import UserError

SHOWN = 12  # names in a message


def freeze(network: nn.Module, patterns: Sequence[str]) -> list[nn.Module]:
    """Freeze the modules and parameters whose dotted names match a pattern: ``layer1``, ``layer[12].*``, ``*.bn?``.

    Returns:
        The modules that match, with all within them: they have to stay in evaluation mode, so that running statistics
        stay as they are and nothing is dropped.

    Raises:
        UserError: a pattern matches nothing, or nothing is left to train.
    """
    frozen: list[nn.Module] = []
    modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
    for pattern in patterns:
        of_modules = [name for name in modules if name and fnmatchcase(name, pattern)]
        of_parameters = [name for name in parameters if fnmatchcase(name, pattern)]
        if not of_modules and not of_parameters:
            top = list(dict.fromkeys(name.split(".")[0] for name in parameters))
            more = ", ..." if len(top) > SHOWN else ""
            raise UserError(
                f"model.freeze={pattern}: matches no module and no parameter; the network has "
                f"{', '.join(top[:SHOWN])}{more}"
            )
        frozen += [module for name in of_modules for module in modules[name].modules()]
        for name in of_parameters:
            parameters[name].requires_grad_(False)
    for module in frozen:
        module.requires_grad_(False).eval()
    if not any(parameter.requires_grad for parameter in parameters.values()):
        raise UserError(f"model.freeze=[{','.join(patterns)}]: leaves nothing to train")
    return list(dict.fromkeys(frozen))
