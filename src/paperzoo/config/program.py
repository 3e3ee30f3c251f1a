"""A Hydra program with a typed configuration, one line for a mistake, and exit codes that mean something."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from paperzoo.config import loading, messages
from paperzoo.errors import Interrupted, UserError

Task = Callable[[Any], object]


def program(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Decorate ``main(config)``: it gets the validated configuration that ``conf/<config_name>.yaml`` composes.

    Exit codes: 0 done, 1 failed on its way, 2 a mistake of the user (one line on stderr, a traceback with
    ``debug=true``), 128 + n for signal n.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            words = sys.argv[1:]
            try:
                _run(task, config_name, words)
            except UserError as error:
                if "debug=true" in words:
                    raise
                print(f"error: {error}", file=sys.stderr)
                sys.exit(error.exit_code)
            except Interrupted as error:
                sys.exit(error.exit_code)
            except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

        return main

    return decorate


def _run(task: Task, config_name: str, words: list[str]) -> None:
    import hydra
    from hydra._internal.utils import get_args_parser

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's own printing of errors takes several lines; ours takes one
    parser = get_args_parser()
    parser.error = _usage_error  # type: ignore[method-assign]
    arguments = parser.parse_args(words)
    if arguments.cfg == "job":
        loading.compose(config_name, arguments.overrides)  # what is shown is valid, too
    if arguments.multirun:
        _refuse_multirun_on_many_devices(arguments.overrides)

    failures: list[Exception] = []

    def validated(composed: DictConfig) -> None:
        try:
            task(loading.validate(composed, loading.SCHEMAS[config_name]))
        except Exception as error:  # Hydra would print its own account of it
            failures.append(error)

    run = hydra.main(version_base="1.3", config_path=str(loading.CONF), config_name=config_name)(validated)
    try:
        run()
    except Exception as error:
        raise messages.translate(error, config_name, arguments.overrides) from error
    for error in failures[1:]:  # of a multirun: each is told, the others have run
        print(f"error: {error}", file=sys.stderr)
    if failures:
        raise failures[0]


def _usage_error(message: str) -> None:
    raise UserError(f"{message}; options of the command itself: --help, --cfg job, --resolve, -m, -sc; all else is key=value")


def _refuse_multirun_on_many_devices(overrides: list[str]) -> None:
    """The ranks that Lightning starts run the whole command line again: each would run the whole sweep."""
    for text in overrides:
        key, _, value = text.partition("=")
        if (key == "trainer" and "ddp" in value) or (key == "trainer.devices" and value.strip() not in ("1", "")):
            raise UserError(
                f"-m with {text}: several runs on several devices each are not started from one process; start them one "
                "after the other from a shell, or sweep with W&B agents"
            )
