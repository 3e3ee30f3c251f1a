"""From a configuration and its data to a paper's module, with the weights that it begins with."""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor

from paperzoo.config import build
from paperzoo.config.schema import Config
from paperzoo.data.interface import RunData
from paperzoo.errors import UserError
from paperzoo.machine import use_channels_last
from paperzoo.networks import official
from paperzoo.random_state import seed_everything
from paperzoo.tasks.freezing import freeze
from paperzoo.tasks.task import Task

GROUPS = ("loss", "optimizer", "scheduler", "mix", "norm")


def make_module(config: Config, data: RunData, weights: dict[str, Any] | None = None) -> Task:
    """The paper's module, its weights drawn from the seed alone: equal on every rank.

    Args:
        config: of the run.
        data: set up; the module is built from its ``info``.
        weights: what ``model.checkpoint`` holds, if it is set.
    """
    seed_everything(config.seed, "weights")
    plain = config.model_dump(mode="json", by_alias=True)
    module: Task = build(
        config.model.target,
        model=plain["model"],
        info=data.info,
        channels_last=use_channels_last(config.trainer),
        window=config.trainer.log_every_n_steps,
        **{group: plain[group] for group in GROUPS},
    )
    if weights is not None:
        try:
            load_weights(module, weights, config.model.name)
        except UserError as error:
            raise UserError(f"model.checkpoint={config.model.checkpoint}: {error}") from None
    if config.model.freeze:
        module.frozen = freeze(module.network, config.model.freeze)
    if config.trainer.precision == "64-true":
        module.network.double()  # before a state is loaded: Lightning would do it after, and round the state
    if config.trainer.compile:
        module.network.compile()
    return module


def load_weights(module: Task, content: dict[str, Any], paper: str) -> None:
    """Load a run's weights, or published ones, into a module's network; a classifier of other classes is replaced.

    Raises:
        UserError: the weights do not fit the network.
    """
    own = of_run(content)
    network = module.network
    if not hasattr(network, "reset_classifier"):
        _load(network, own if own is not None else content, None if own is not None else paper)
        return
    classes = network.num_classes
    name = official.classifier_name(network)
    published = (own if own is not None else official.unwrap(content)).get(f"{name}.weight")
    network.reset_classifier(len(published) if published is not None else classes)
    _load(network, own if own is not None else content, None if own is not None else paper)
    if network.num_classes != classes:
        module.new_head = f"{name}, a classifier of {classes} classes in place of {network.num_classes}"
        network.reset_classifier(classes)


def of_run(content: dict[str, Any]) -> dict[str, Tensor] | None:
    """The network's weights in a run's checkpoint, or None for a file from elsewhere."""
    if "pytorch-lightning_version" not in content:
        return None
    prefix = "network."
    return {key.removeprefix(prefix): v for key, v in content["state_dict"].items() if key.startswith(prefix)}


def _load(network: Any, state: dict[str, Any], paper: str | None) -> None:
    """By the paper's own ``load_official`` where it has one."""
    if paper is not None and find_spec(f"paperzoo.papers.{paper}"):
        package = import_module(f"paperzoo.papers.{paper}")
        getattr(package, "load_official", official.load_exactly)(network, state)
    else:
        official.load_exactly(network, state)
