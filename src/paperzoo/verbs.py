"""The small verbs' command line: ``python src/<verb>.py [positional ...] [key=value ...]``."""

import difflib
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from paperzoo.errors import Interrupted, UserError
from paperzoo.places import as_called, print_version

Handler = Callable[..., int | None]


def run(
    handler: Handler,
    usage: str,
    *,
    positional: int = 0,
    defaults: Mapping[str, str | None],
    more_with: str | None = None,
    of_run: bool = False,
) -> None:
    """Call ``handler(*positional, **options)`` with the command line's words and exit with what it returns.

    A user's mistake is one line on stderr and exit code 2. Words are text; the handler reads them as it needs.

    Args:
        handler: returns an exit code; None is 0.
        usage: the docstring that ``--help`` prints.
        positional: how many words may come before the options.
        defaults: the options and their defaults.
        more_with: an option that brings others, which the handler checks.
        of_run: the positional word is a run, which may be written ``run=<id>``, too, as in ``evaluate.py``.
    """
    try:
        given, options = _parse(sys.argv[1:], usage, positional, defaults, more_with, of_run)
        code = handler(*given, **options) or 0
        sys.stdout.flush()
    except UserError as error:
        print(as_called(f"error: {error}"), file=sys.stderr)
        code = error.exit_code
    except Interrupted as error:
        print(f"{error}: the same command goes on", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        code = 130
    sys.exit(code)


def _parse(
    words: list[str],
    usage: str,
    positional: int,
    defaults: Mapping[str, str | None],
    more_with: str | None,
    of_run: bool,
) -> tuple[list[str], dict[str, Any]]:
    if any(word in ("-h", "--help") for word in words):
        print(as_called(usage.strip()))
        sys.exit(0)
    if "--version" in words:
        print_version()
        sys.exit(0)
    given: list[str] = []
    options: dict[str, Any] = dict(defaults)
    is_open = any(word.startswith(f"{more_with}=") for word in words)
    for word in (word.removeprefix("run=") if of_run else word for word in words):
        key, equals, value = word.removeprefix("paths.").removeprefix("data.").partition("=")  # as train.py has them
        if equals and (key in options or (is_open and all(map(str.isidentifier, key.split("."))))):
            options[key] = value
        elif equals or word.startswith("-"):
            nearest = difflib.get_close_matches(key.lstrip("-"), options, n=1)
            hint = f". Did you mean {nearest[0]}=?" if nearest else ""
            raise UserError(f"{word}: there is no such option; options: {_options(defaults)}{hint}")
        elif len(given) == positional:
            raise UserError(f"{word}: one word too many; options are key=value: {_options(defaults)}")
        else:
            given.append(word)
    return given, options


def _options(defaults: Mapping[str, str | None]) -> str:
    return ", ".join(f"{key}=" for key in defaults) or "none"


def whole_number(name: str, text: str, minimum: int = 0) -> int:
    """An option's whole number.

    Raises:
        UserError: it is none, or below ``minimum``.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) < minimum:
        raise UserError(f"{name}={text}: must be a whole number of at least {minimum}")
    return int(text)


def boolean(name: str, text: str) -> bool:
    """An option's true or false.

    Raises:
        UserError: it is neither.
    """
    if text not in ("true", "false"):
        raise UserError(f"{name}={text}: must be true or false")
    return text == "true"


def fraction(name: str, text: str) -> float:
    """An option's number from 0 to 1.

    Raises:
        UserError: it is none, or outside.
    """
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise UserError(f"{name}={text}: must be a number from 0 to 1")
    return value
