"""A Hydra program with a typed configuration, one line for a mistake, and exit codes that mean something."""

import argparse
import functools
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING, NoReturn

from paperzoo.config.groups import config_groups
from paperzoo.errors import Interrupted, UserError
from paperzoo.places import CONF, as_called, print_version

if TYPE_CHECKING:
    from omegaconf import DictConfig

Task = Callable[..., object]
FLAGS = "--help, --cfg job, --resolve, -m, -sc"


def program(config_name: str, own: Mapping[str, str] | None = None) -> Callable[[Task], Callable[[], None]]:
    """Decorate ``main(config)``: it gets the validated configuration that ``conf/<config_name>.yaml`` composes.

    ``own`` are options of the command that no configuration has, with their defaults; ``main(config, **own)`` gets
    them as text.

    Exit codes: 0 done, 1 failed on its way, 2 a mistake of the user (one line on stderr, a traceback with
    ``debug=true``), 128 + n for signal n.
    """

    def decorate(task: Task) -> Callable[[], None]:
        @functools.wraps(task)
        def main() -> None:
            given, words = taken(sys.argv[1:], own or {})
            sys.argv[1:] = words
            try:
                _run(functools.partial(task, **given) if given else task, config_name, words)
            except UserError as error:
                _tell(error, debug=any(re.fullmatch(r"\+{0,2}debug=true", word, re.IGNORECASE) for word in words))
                sys.exit(error.exit_code)
            except Interrupted as error:
                sys.exit(error.exit_code)
            except KeyboardInterrupt:  # before the run listens to signals itself, while torch is imported, say
                sys.exit(130)
            except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

        return main

    return decorate


def _tell(error: UserError, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    else:
        print(as_called(f"error: {' '.join(str(error).splitlines())}"), file=sys.stderr)


def _run(task: Task, config_name: str, words: list[str]) -> None:
    if "--version" in words:
        print_version()
        return
    if words in (["--help"], ["-h"]):  # at once: Hydra, OmegaConf and pydantic take half a second to import
        print(_help(config_name))
        return
    import hydra

    from paperzoo.config import loading, messages

    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra's own printing of errors takes several lines; ours takes one
    arguments = _parse(words, config_name)
    overrides = arguments.overrides
    if arguments.help:
        print(_help(config_name))
        return
    if arguments.cfg == "job" and not (arguments.config_dir or arguments.package or arguments.multirun):
        _show(config_name, overrides, resolve=arguments.resolve)
        return
    if _is_single(arguments):
        task(loading.compose(config_name, overrides))
        return
    if not (arguments.shell_completion or arguments.config_dir):  # completion has words of its own, a folder options
        messages.check_overrides(overrides, multirun=arguments.multirun)
    if arguments.multirun and not arguments.config_dir:
        _check_all(config_name, overrides)
        sys.argv[1:] = [word for word in sys.argv[1:] if word not in overrides]
        sys.argv += messages.within_swept_groups(_launched(overrides))

    failures: list[Exception] = []

    def validated(composed: "DictConfig") -> None:
        try:
            task(loading.validate(composed, config_name, overrides))
        except Exception as error:  # Hydra would print its own account of it
            failures.append(error)
            if is_elsewhere():  # a job of a cluster must fail where it runs
                raise

    def is_elsewhere() -> bool:
        from hydra.core.hydra_config import HydraConfig

        return "BasicLauncher" not in str(HydraConfig.get().launcher.get("_target_"))

    run = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(validated)
    try:
        run()
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        advice = "choose another hydra.run.dir or hydra.sweep.dir"
        raise UserError(f"{error.filename}: {error.strerror}; {advice}") from error
    except Exception as error:
        raise messages.translate(error, config_name, overrides) from error
    for failure in failures[1:]:  # of a multirun: each is printed, the others have run
        print(as_called(f"error: {' '.join(str(failure).splitlines())}"), file=sys.stderr)
    if failures:
        raise failures[0]


def _is_single(arguments: argparse.Namespace) -> bool:
    """Whether one run is asked for and nothing of Hydra's own: it is composed once then, where Hydra does it twice."""
    asked = ("multirun", "cfg", "info", "shell_completion", "config_dir")
    hydras = any(word.lstrip("+~").startswith(("hydra.", "hydra/")) for word in arguments.overrides)
    return not hydras and not any(getattr(arguments, name) for name in asked)


def _show(config_name: str, overrides: list[str], *, resolve: bool) -> None:
    """Print the configuration, which is valid, as Hydra prints it: it would compose it once more."""
    from omegaconf import OmegaConf

    from paperzoo.config import loading, messages

    composed = loading.compose_only(config_name, messages.as_hydra_reads(overrides))
    loading.validate(composed, config_name, overrides)
    print(OmegaConf.to_yaml(composed, resolve=resolve), end="")


def _help(config_name: str) -> str:
    """The page of ``hydra.help``, filled in here: Hydra takes half a second over its list of groups."""
    import yaml

    page = yaml.safe_load((CONF / f"{config_name}.yaml").read_text())["hydra"]["help"]["template"]
    groups = "\n".join(f"  {group}: {', '.join(options)}" for group, options in config_groups().items())
    return as_called(Template(page).substitute(APP_CONFIG_GROUPS=groups).rstrip())


def _parse(words: list[str], config_name: str) -> argparse.Namespace:
    """Hydra's arguments, options and overrides in any order; ``sys.argv`` is left in the order that Hydra reads."""
    from hydra._internal.utils import get_args_parser

    from paperzoo.config import messages

    parser = get_args_parser()
    parser.error = _usage_error
    arguments, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        raise UserError(
            f"{unknown[0]}: there is no such option; options: {FLAGS}; all else is key=value{_meant(unknown[0])}"
        )
    for option in ("config_name", "config_path", "experimental_rerun"):
        if (value := getattr(arguments, option)) is not None:
            raise UserError(
                f"--{option.replace('_', '-')}={value}: leave it away, this program composes conf/{config_name}.yaml; "
                "configurations of your own go to conf/experiment/ and are chosen by experiment=<name>"
            )
    if arguments.resolve and not arguments.cfg:
        raise UserError("--resolve: goes with --cfg job")
    chosen = [
        f"--{name.replace('_', '-')}"
        for name in ("multirun", "cfg", "info", "shell_completion")
        if getattr(arguments, name)
    ]
    if len(chosen) > 1:
        raise UserError(f"{' '.join(chosen)}: exclude each other; give one")
    flags = [word for word in words if word not in arguments.overrides]
    arguments.overrides = messages.as_hydra_reads(arguments.overrides)
    sys.argv[1:] = [*flags, *arguments.overrides]
    return arguments


def taken(words: Sequence[str], own: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """A command's own options, and the words that are left for the configuration."""
    given, left = dict(own), []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in own:
            given[name] = value
        else:
            left.append(word)
    return given, left


def as_overrides(words: Sequence[str]) -> list[str]:
    """The words of a small command as overrides: the first without ``=`` is the run, folders are in ``paths``."""
    found = [re.sub(r"^(runs_dir|data_dir)=", r"paths.\1=", word) for word in words]
    named = [place for place, word in enumerate(found) if "=" not in word and not word.startswith("-")]
    if named and not any(word.startswith("-") for word in found[: named[0]]):  # job in --cfg job is no run
        found[named[0]] = f"run={found[named[0]]}"
    return found


def _usage_error(message: str) -> NoReturn:
    raise UserError(f"{message}; options: {FLAGS}; all else is key=value")


def _meant(word: str) -> str:
    from paperzoo.config import messages
    from paperzoo.config.schema import Config

    keys = [
        f"{group}.{name}"
        for group, field in Config.model_fields.items()
        for name in getattr(field.annotation, "model_fields", {})
        if name not in ("name", "target")
    ]
    name = word.lstrip("-").split("=")[0].replace("-", "_")
    near = messages.nearest(name, [*Config.model_fields, *keys])
    return near.replace("?", "=...?")


def _launched(overrides: list[str]) -> list[str]:
    """The overrides, without a cluster's launcher where nothing is to be started.

    Raises:
        UserError: jobs of Slurm are asked for where there is none.
    """
    if "dry_run=true" in (word.lower() for word in overrides):
        return [word for word in overrides if not word.lstrip("+").startswith(("hydra/launcher", "hydra.launcher"))]
    slurm = next((word for word in overrides if word.lstrip("+") == "hydra/launcher=submitit_slurm"), None)
    if slurm and shutil.which("srun") is None:
        raise UserError(
            f"{slurm}: there is no srun here, so this is no machine of a Slurm cluster; start it on one, or take "
            "hydra/launcher=submitit_local for jobs on this machine"
        )
    return overrides


def _check_all(config_name: str, overrides: Sequence[str]) -> None:
    """Check every run of a multirun before the first starts, where Hydra's own sweeper makes them."""
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser

    from paperzoo.config import loading

    if any(text.lstrip("+").startswith("hydra/sweeper") for text in overrides):
        raise UserError("hydra/sweeper: searches are sweeps/*.yaml; python src/sweep.py sweeps/x.yaml runs one")
    slurm = any(text.lstrip("+").startswith("hydra/launcher=submitit_slurm") for text in overrides)  # starts all ranks
    ours = [text for text in overrides if not text.lstrip("+").startswith("hydra")]  # where a sweep lies changes no run
    parsed = OverridesParser.create().parse_overrides(ours)
    for job in BasicSweeper.split_arguments(parsed, None)[0]:
        config = loading.compose(config_name, job)
        trainer = getattr(config, "trainer", None)
        if trainer and trainer.devices * trainer.num_nodes > 1 and not slurm:
            # The ranks that Lightning starts run the whole command line again: each would run the whole sweep.
            raise UserError(
                f"-m with trainer={trainer.name}, trainer.devices={trainer.devices}: several runs on several devices "
                "each are not started from one process; start them one after the other from a shell loop, or with "
                "hydra/launcher=submitit_slurm"
            )
