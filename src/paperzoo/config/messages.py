"""A mistake in the configuration as one line: the value, what is allowed, the nearest match, the place."""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ValidationError

from paperzoo.errors import UserError

WORDS = {"int_type": "a whole number", "float_type": "a number", "bool_type": "true or false", "string_type": "a word"}
WORDS |= {"int_parsing": "a whole number", "int_from_float": "a whole number", "float_parsing": "a number"}
WORDS |= {"bool_parsing": "true or false", "list_type": "a list", "tuple_type": "a list", "dict_type": "a group of keys"}
WORDS |= {"model_type": "a group of keys", "finite_number": "a finite number"}
BOUNDS = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``. Did you mean x?`` where a word is near one that is allowed, else nothing."""
    found = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f". Did you mean {found[0]}?" if found else ""


def translate(error: Exception, config_name: str, overrides: Sequence[str]) -> Exception:
    """Hydra's error as a UserError, or the error itself where it is not about the command line."""
    from hydra.errors import HydraException

    if isinstance(error, UserError):
        return error
    if isinstance(error, OmegaConfBaseException):
        return translate_omegaconf(error)
    if not isinstance(error, (HydraException, ValueError)):
        return error
    explained = next(_override_mistakes(config_name, overrides), None) or _other(error, config_name, overrides)
    return UserError(explained)


def translate_omegaconf(error: OmegaConfBaseException) -> UserError:
    """A missing value, or an interpolation that leads nowhere."""
    key = getattr(error, "full_key", None) or "configuration"
    reason = str(error).splitlines()[0]
    if "Missing mandatory value" in reason:
        return UserError(f"{key}: must be given, e.g. {key}=...")
    return UserError(f"{key}: {reason[0].lower()}{reason[1:]}")


def translate_validation(error: ValidationError, schema: type[BaseModel], plain: Mapping[str, Any]) -> str:
    """Pydantic's first error, and how many more there are."""
    first = error.errors()[0]
    location = [part for part in first["loc"] if not isinstance(part, str) or "[" not in part]
    key = ".".join(map(str, location))
    value, kind, context = first["input"], first["type"], first.get("ctx", {})
    more = f" (and {error.error_count() - 1} more mistakes)" if error.error_count() > 1 else ""
    if kind == "extra_forbidden":
        allowed = _keys(schema, location[:-1])
        return f"{key}={_show(value)}: there is no such key; keys{_in(location)}: {', '.join(allowed)}" + nearest(str(location[-1]), allowed) + more
    if kind == "missing":
        return f"{key}: must be given{_in(location)}, e.g. {key}=..." + more
    return f"{key}={_show(value)}: must be {_demand(kind, context, value, first['msg'])}" + more


def _demand(kind: str, context: Mapping[str, Any], value: Any, message: str) -> str:
    if kind in ("literal_error", "enum"):
        allowed = [word.strip("'") for word in re.split(r", | or ", context["expected"])]
        return f"one of {', '.join(allowed)}" + nearest(str(value), allowed)
    bound = next((name for name in BOUNDS if name in context), None)
    if bound:
        return f"{BOUNDS[bound]} {context[bound]:g}" if isinstance(context[bound], float) else f"{BOUNDS[bound]} {context[bound]}"
    if kind in ("too_long", "too_short"):
        return f"of another length ({message})"
    return WORDS.get(kind, message[0].lower() + message[1:])


def _show(value: Any) -> str:
    return {None: "null", True: "true", False: "false"}.get(value, str(value)) if isinstance(value, (bool, type(None))) else str(value)


def _in(location: Sequence[Any]) -> str:
    return f" in {'.'.join(map(str, location[:-1]))}" if len(location) > 1 else ""


def _keys(schema: type[BaseModel], location: Sequence[Any]) -> list[str]:
    """The keys that the schema has at a place."""
    for part in location:
        field = next((f for name, f in schema.model_fields.items() if part in (name, f.alias)), None)
        inner = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)] if field else []
        found = next((t for t in inner if issubclass(t, BaseModel)), None)
        if found is None:
            return []
        schema = found
    return [field.alias or name for name, field in schema.model_fields.items()]


def _override_mistakes(config_name: str, overrides: Sequence[str]) -> Iterator[str]:
    """What is wrong with each override by itself: grammar, and words that name no option of their group."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    groups = config_groups()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except HydraException as error:
            yield f"{text}: cannot be read ({_grammar(text, str(error))}); write key=value, quote special characters: 'key=\"a,b\"'"
            continue
        key = override.key_or_group
        if not key:
            yield f"{text}: has no key; write key=value"
        elif key in groups and override.is_sweep_override() is False and isinstance(value := override.value(), (str, int, float)):
            options = groups[key]
            if str(value) not in options and not (key == "experiment" and value is None):
                plural = key if key in ("data", "experiment") else f"{key}s"
                yield f"{text}: there is no such {key}; {plural}: {', '.join(options) or 'none'}" + nearest(str(value), options)


def _grammar(text: str, message: str) -> str:
    lines = [line for line in message.splitlines() if line and not line.startswith(("See http", "Error parsing"))]
    return "no =" if "missing EQUAL" in message else (lines[0] if lines else "bad grammar")


def config_groups() -> dict[str, list[str]]:
    """Every config group in conf/ with its options, ``experiment`` with those in its folders."""
    from paperzoo.config.loading import CONF

    groups = {}
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir()):
        groups[folder.name] = sorted(file.relative_to(folder).with_suffix("").as_posix() for file in folder.rglob("*.yaml"))
    return groups


def _other(error: Exception, config_name: str, overrides: Sequence[str]) -> str:
    """What only the whole composition shows."""
    text = str(error)
    groups = config_groups()
    if match := re.search(r"Could not override '([^']+)'", text):
        return _unknown_key(match[1], config_name, overrides)
    if match := re.search(r"You must specify '([^']+)'", text):
        options = ", ".join(groups.get(match[1], []))
        return f"{match[1]} must be given, e.g. {match[1]}={'scnet' if match[1] == 'model' else '...'}; {match[1]}s: {options}"
    if match := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"+{match[1]}: is there already; leave the + away to change it"
    if match := re.search(r"Cannot find primary config '([^']+)'", text):
        return f"--config-name={match[1]}: there is no such configuration in conf/; leave it away"
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{match[1]}: several values need -m (one run each); for a list write key=[a,b]"
    if match := re.search(r"Could not delete from config\. (.*)", text):
        return f"~: {match[1]}"
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "See http" not in line)


def _unknown_key(key: str, config_name: str, overrides: Sequence[str]) -> str:
    """A key that is not there: the keys beside it, and the nearest of all."""
    from hydra import compose, initialize_config_dir

    from paperzoo.config.loading import CONF

    given = next((text for text in overrides if text.lstrip("+~").split("=", 1)[0] == key), key)
    groups = config_groups()
    rest = [text for text in overrides if text.split("=", 1)[0] in groups]
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            composed = compose(config_name, rest)
    except Exception:  # another mistake beside this one: name this one all the same
        return f"{given}: there is no such key"
    parent, _, name = key.rpartition(".")
    keys = list(_leaves(composed, ""))
    beside = [leaf.removeprefix(f"{parent}.") for leaf in keys if leaf.startswith(f"{parent}.")] if parent else [*composed]
    where = f" in {parent}" if parent and beside else ""
    allowed = ", ".join(dict.fromkeys(leaf.split(".")[0] for leaf in beside or [*composed]))
    candidates = [f"{parent}.{leaf}" for leaf in beside] if parent and beside else [*keys, *groups]
    return f"{given}: there is no such key; keys{where}: {allowed}" + nearest(key, candidates)


def _leaves(node: Any, prefix: str) -> Iterator[str]:
    for key in node:
        child = node._get_node(key)
        yield f"{prefix}{key}"
        if hasattr(child, "items") and child._is_none() is False:
            yield from _leaves(child, f"{prefix}{key}.")
