"""What pydantic refuses, as one line: the value, what is allowed, the nearest match, the place."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from paperzoo.config.groups import config_groups
from paperzoo.config.messages import HIDDEN, group_missing, nearest, no_such_key, show

WORDS = {"int_type": "a whole number", "float_type": "a number", "bool_type": "true or false", "string_type": "a word"}
WORDS |= {"int_parsing": "a whole number", "int_from_float": "a whole number", "float_parsing": "a number"}
WORDS |= {"bool_parsing": "true or false", "list_type": "a list such as [a,b]", "dict_type": "a group of keys"}
WORDS |= {"model_type": "a group of keys", "finite_number": "a finite number"}
BOUNDS = {"ge": "at least", "gt": "greater than", "le": "at most", "lt": "less than"}


def translate(
    error: ValidationError, schema: type[BaseModel], plain: Mapping[str, Any], overrides: Sequence[str] = ()
) -> str:
    """Pydantic's first error, where it comes from, and how many more there are."""
    first = error.errors()[0]
    location, value = first["loc"], first["input"]
    key = ".".join(map(str, location))
    line = _validation(first, schema, location, key, value, plain)
    if first["type"] == "missing" and len(location) > 1:
        chosen = next((text for text in overrides if text.startswith(f"{location[0]}=")), "")
        line += f", or a line in the file of {chosen}" if chosen else ""
    experiment = next((text for text in overrides if text.startswith("experiment=")), "")
    if experiment and not any(text.lstrip("+").startswith(key.split(".")[0]) for text in overrides):
        line += f" ({experiment} sets it)"
    more = error.error_count() - 1
    return line + (f" (and {more} more mistake{'s' if more > 1 else ''})" if more else "")


def _validation(
    first: Any, schema: type[BaseModel], location: Sequence[Any], key: str, value: Any, plain: Mapping[str, Any]
) -> str:
    kind = first["type"]
    parent, inside = ".".join(map(str, location[:-1])), f" in {location[0]}" if len(location) > 1 else ""
    if kind == "extra_forbidden" and len(location) == 2 and "_target_" in _keys(schema, location[:1]):
        return _not_taken(schema, plain, location, value)
    if kind == "extra_forbidden":
        return no_such_key(f"{key}={show(value)}", parent, str(location[-1]), _keys(schema, location[:-1]))
    if kind == "missing":
        return group_missing(key) if key in config_groups() else f"{key}: must be given{inside}, e.g. +{key}=..."
    return f"{key}={show(value)}: must be {_demand(kind, first.get('ctx', {}), value, first['msg'])}"


def _not_taken(schema: type[BaseModel], plain: Mapping[str, Any], location: Sequence[Any], value: Any) -> str:
    """A key that the chosen target does not take: those that only it takes, or that there are none."""
    group, key = location
    own = [name for name in _keys(schema, [group]) if name not in (*HIDDEN, *_keys_of_all(schema, group))]
    name = plain[group].get("name") if isinstance(plain.get(group), Mapping) else group
    takes = f"of these it takes {', '.join(own)}" if own else "leave it away"
    return f"{group}.{key}={show(value)}: {group}={name} has no {key}; {takes}{nearest(str(key), own)}"


def _keys_of_all(schema: type[BaseModel], group: str) -> list[str]:
    """The keys that every choice of a group has."""
    base = schema.__mro__[1] if schema.__name__ == "Config" and schema.__mro__[1].__name__ == "Config" else schema
    return _keys(base, [group])


def _demand(kind: str, context: Mapping[str, Any], value: Any, message: str) -> str:
    if kind in ("literal_error", "enum"):
        allowed = [word.strip("'") for word in re.split(r", | or ", context["expected"])]
        return f"one of {', '.join(allowed)}" + nearest(str(value), allowed)
    if kind in ("too_long", "too_short"):
        return f"a list of {context.get('min_length', context.get('max_length'))}"
    bound = next((name for name in BOUNDS if name in context), None)
    if bound:
        return f"{BOUNDS[bound]} {context[bound]:.15g}"
    return WORDS.get(kind, message[0].lower() + message[1:])


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
