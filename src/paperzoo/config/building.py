"""From a choice to what it names."""

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any

from paperzoo.config.schema import Choice
from paperzoo.errors import UserError, first_line

NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def build(choice: Choice | str, *args: Any, **extra: Any) -> Any:
    """Call what a choice's ``_target_`` (or a dotted path) names with its arguments that are not None, and ``extra``.

    Raises:
        UserError: the target does not exist, or does not take such arguments, or such values of a choice together.
    """
    target = choice if isinstance(choice, str) else choice.target
    arguments = {} if isinstance(choice, str) else choice.arguments()
    given = {name: value for name, value in arguments.items() if value is not None} | extra
    function = locate(target)
    try:
        return function(*args, **given)
    except TypeError as error:
        if "argument" in str(error) and error.__traceback__ and error.__traceback__.tb_next is None:
            raise UserError(_does_not_take(choice, target, _names(function)[len(args) :], error)) from None
        if texts := _untyped_texts(choice):  # more likely a word where a number belongs than a bug of the target
            raise UserError(f"{texts}: {target} fails on such values ({first_line(error)})") from error
        raise
    except ValueError as error:
        if isinstance(choice, str):
            raise
        raise UserError(f"{_group(choice)}={choice.name}: {first_line(error)}") from error


def _does_not_take(choice: Choice | str, target: str, takes: list[str], error: TypeError) -> str:
    """What it does take, and how a key that came with another target is left out."""
    place = "" if isinstance(choice, str) else f"{_group(choice)}."
    line = f"{place}_target_={target}: does not take what the configuration gives it ({error})"
    unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if not (place and unknown and takes):
        return line
    return f"{line}; it takes {', '.join(takes)}; ~{place}{unknown[1]} leaves {unknown[1]} out"


def _names(function: Callable[..., Any]) -> list[str]:
    try:
        return [name for name, one in inspect.signature(function).parameters.items() if one.kind in NAMED]
    except ValueError:  # some of what is written in C has no signature
        return []


def _untyped_texts(choice: Choice | str) -> str:
    """The words among the values that no schema has checked: ``optimizer.alpha=abc``."""
    if isinstance(choice, str):
        return ""
    own = choice.model_extra or {}
    return ", ".join(f"{_group(choice)}.{key}={value}" for key, value in own.items() if isinstance(value, str))


def _group(choice: Choice) -> str:
    """The group that a choice is of: ``loss``."""
    return next(kind.__name__.lower() for kind in type(choice).__mro__ if kind is Choice or Choice in kind.__bases__)


def locate(target: str) -> Any:
    """The object with a dotted path.

    Raises:
        UserError: there is none.
    """
    module_name, _, name = target.rpartition(".")
    try:
        return getattr(importlib.import_module(module_name), name)
    except (ImportError, ValueError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name and not module_name.startswith(error.name):
            raise  # the module is there, what it needs is not
        raise UserError(f"_target_={target}: there is no such class or function ({error})") from None
