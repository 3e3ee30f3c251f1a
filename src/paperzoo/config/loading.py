"""From conf/ and overrides, or from a record, to a validated configuration."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from paperzoo.config import messages
from paperzoo.errors import UserError
from paperzoo.places import CONF

if TYPE_CHECKING:
    from paperzoo.config.schema import Config


def compose(config_name: str, overrides: Sequence[str]) -> Any:
    """The validated configuration that a command line with ``overrides`` gives.

    Raises:
        UserError: a mistake in it, in one line.
    """
    overrides = messages.as_hydra_reads(overrides)
    return validate(compose_only(config_name, overrides), config_name, overrides)


def compose_only(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """What Hydra composes, not validated.

    Raises:
        UserError: Hydra refuses it, in one line.
    """
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir

    messages.check_overrides(overrides)
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return hydra_compose(config_name, list(overrides))
    except Exception as error:
        raise messages.translate(error, config_name, overrides) from error


def load_config(plain: dict[str, Any]) -> "Config":
    """The configuration of a training run from plain data, such as a record's.

    Raises:
        UserError: it does not fit this version's schema, in one line.
    """
    config: Config = validate(OmegaConf.create(plain), "train")
    return config


def dump(config: "Config") -> dict[str, Any]:
    """A configuration as plain data, from which ``load_config`` makes an equal one."""
    return config.model_dump(mode="json", by_alias=True)


def validate(composed: DictConfig, config_name: str, overrides: Sequence[str] = ()) -> Any:
    """Check types, ranges, the model's own options and combinations.

    Raises:
        UserError: the first mistake, in one line.
    """
    # Only now: what Hydra refuses is reported without pydantic, whose import takes as long as the composition.
    from pydantic import ValidationError

    from paperzoo.config import checks, invalid, older, options
    from paperzoo.config.schema import Config, Evaluation

    schema: Any = {"train": Config, "evaluate": Evaluation}[config_name]
    plain: Any
    try:
        plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise messages.translate_omegaconf(error, overrides) from error
    if issubclass(schema, Config):
        if set(plain.get("model") or ()) == {"freeze"}:  # which every model has, and there is none
            del plain["model"]
        plain = older.upgraded(plain)
        schema = options.schema_of(plain)
    try:
        config = schema.model_validate(plain)
    except ValidationError as error:
        raise UserError(invalid.translate(error, schema, plain, overrides)) from None
    if isinstance(config, Config):
        checks.check(config)
    return config
