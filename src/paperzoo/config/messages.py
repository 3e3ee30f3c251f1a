"""A mistake in the configuration as one line: the value, what is allowed, the nearest match, the place."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from paperzoo.config.groups import OF_OTHERS, config_groups
from paperzoo.errors import UserError
from paperzoo.places import CONF

HIDDEN = ("name", "_target_")  # keys that every choice has and hardly anyone sets
UNKNOWN = (  # Hydra's words for a key or a group that is not there
    r"Could not override '([^']+)'",
    r"Could not delete (?:from config\. )?'([^']+)'",
    r"looks like a config group override, but config group '([^']+)'",
)
NO_OPTION = re.compile(r"Could not find '([^']+)/([^'/]+)'\s+Available options in '[^']+':(.*?)\n\S", re.DOTALL)
BRACKETS = (("[", "]"), ("{", "}"), ("(", ")"))


def nearest(word: str, allowed: Iterable[str]) -> str:
    """``. Did you mean x?`` where a word is near one that is allowed, else nothing.

    A word without a dot is also compared with the last part of dotted keys: ``lr`` is near ``optimizer.lr``.
    """
    scored = [(_nearness(word, candidate), -place, candidate) for place, candidate in enumerate(allowed)]
    score, _, found = max(scored, default=(0.0, 0, ""))
    return f". Did you mean {found}?" if score >= 0.6 else ""


def _nearness(word: str, candidate: str) -> float:
    word, candidate = word.lower(), candidate.lower()
    forms = {candidate} if "." in word else {candidate, candidate.rpartition(".")[2]}
    ratios = [difflib.SequenceMatcher(None, word, form).ratio() for form in forms]
    starts = len(word) > 1 and any(form.startswith(word) for form in forms)
    return max([*ratios, 0.65 if starts else 0.0])


def translate(error: Exception, config_name: str, overrides: Sequence[str]) -> Exception:
    """Hydra's error as a UserError, or the error itself where it is not about the command line or ``conf/``."""
    from hydra.errors import HydraException

    if isinstance(error, UserError):
        return error
    if isinstance(error, OmegaConfBaseException):
        return translate_omegaconf(error, overrides)
    if isinstance(error, yaml.YAMLError):
        return UserError(f"conf/: {_one_line(error)}")
    if isinstance(error, HydraException) or (isinstance(error, ValueError) and _raised_by_hydra(error)):
        return UserError(_composition(error, config_name, overrides))
    return error


def _raised_by_hydra(error: Exception) -> bool:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return trace is not None and trace.tb_frame.f_globals.get("__name__", "").startswith("hydra.")


def _one_line(error: object) -> str:
    return " ".join(line.strip() for line in str(error).splitlines() if line.strip() and "See http" not in line)


def translate_omegaconf(error: OmegaConfBaseException, overrides: Sequence[str] = ()) -> UserError:
    """A missing value, or an interpolation that leads nowhere."""
    key = getattr(error, "full_key", None) or "configuration"
    reason = str(error).splitlines()[0]
    given = next((text for text in overrides if text.lstrip("+").startswith(f"{key}=")), key)
    if "Missing mandatory value" in reason:
        return UserError(f"{key}: must be given, e.g. {key}=...")
    if match := re.search(r"Environment variable '(\w+)' not found", reason):
        return UserError(f"{given}: the environment variable {match[1]} is not set; set it, or write the value itself")
    if match := re.search(r"Interpolation key '([^']+)' not found", reason):
        return UserError(f"{given}: ${{{match[1]}}} names no key; `--cfg job` shows all")
    return UserError(f"{given}: {reason[0].lower()}{reason[1:]}")


def group_missing(group: str) -> str:
    """A group of which no option was chosen."""
    options = config_groups()[group]
    example = "scnet" if group == "model" else options[0]
    return f"{group} must be given, e.g. {group}={example}; {_plural(group)}: {', '.join(options)}"


def _plural(group: str) -> str:
    return {"data": "data", "mix": "mixes", "loss": "losses"}.get(group, f"{group}s")


def no_such_option(given: str, group: str, value: str, options: Sequence[str]) -> str:
    """The options that a group has, and the nearest of them."""
    known = f"{_plural(group)}: {', '.join(options)}"
    return f"{given}: there is no such {group}; {known}{nearest(value, options)}"


def no_such_key(given: str, parent: str, name: str, keys: Iterable[str]) -> str:
    """The keys that there are beside it, and the nearest of them."""
    shown = [key for key in keys if key not in HIDDEN]
    near = nearest(name, shown)
    if parent:
        near = near.replace("Did you mean ", f"Did you mean {parent}.")
    return f"{given}: there is no such key; keys{f' in {parent}' if parent else ''}: {', '.join(shown) or 'none'}{near}"


def show(value: Any) -> str:
    """A value as it is written on the command line."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(show, value))}]"
    return str(value)


def as_hydra_reads(overrides: Sequence[str]) -> list[str]:
    """Quote the ids of runs, which are hex digits: 1234567890 and 12e4567890 would be read as numbers.

    Add what every model has and no file of ``conf/model`` repeats: ``model.freeze``.
    """
    overrides = [re.sub(r"^model\.freeze=", "++model.freeze=", text) for text in overrides]
    return [re.sub(r"^(run|resume)=([0-9][0-9a-fA-F-]*)$", r"\1='\2'", text) for text in overrides]


def within_swept_groups(overrides: Sequence[str]) -> list[str]:
    """Hydra composes a multirun once without what is swept: a key of a swept group has no place there by itself.

    ``model=scnet,resnet model.width=8`` becomes ``model=scnet,resnet model.width=choice(8)``, a sweep of one.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    swept = {override.key_or_group for override in parsed if override.is_sweep_override()} & config_groups().keys()

    def rewritten(text: str, override: Any) -> str:
        if override.is_sweep_override() or override.key_or_group.split(".")[0] not in swept or "=" not in text:
            return text
        key, _, value = text.partition("=")
        return f"{key}=choice({value})"

    return [rewritten(text, override) for text, override in zip(overrides, parsed, strict=True)]


def check_overrides(overrides: Sequence[str], *, multirun: bool = False) -> None:
    """Check each override by itself: its grammar, and words that name no option of their group.

    Raises:
        UserError: the first mistake, in one line.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for place, text in enumerate(overrides):
        try:
            override = parser.parse_override(text)
        except HydraException:
            following = overrides[place + 1] if place + 1 < len(overrides) else ""
            raise UserError(f"{text or repr(text)}: {_unreadable(text, following)}") from None
        key = override.key_or_group
        if not key:
            raise UserError(f"{text}: has no key; write key=value")
        if override.is_sweep_override() and not multirun:
            raise UserError(f"{text}: several values need -m (one run each); for a list write '{key}=[a,b]'")
        if key in config_groups() and not override.is_delete():
            _check_group(text, key, override)


def _check_group(text: str, group: str, override: Any) -> None:
    options = config_groups()[group]
    plural = _plural(group)
    if override.is_sweep_override():
        if not override.is_discrete_sweep():
            return
        values = [str(word).strip("'\"") for word in override.sweep_string_iterator()]
    else:
        value = override.value()
        if isinstance(value, dict):
            return  # merged into the group's keys
        if isinstance(value, list):
            raise UserError(f"{text}: must be one word; {plural}: {', '.join(options)}")
        values = [show(value)]
    for value in values:
        if value == "null":
            raise UserError(f"{text}: must be one of {', '.join(options)}; for none leave {group}= away")
        if value not in options:
            raise UserError(no_such_option(text, group, value, options))


def _unreadable(text: str, following: str) -> str:
    """Why Hydra's grammar does not take a word, and what to write instead."""
    key, equals, value = text.partition("=")
    if not text:
        return "is empty; write key=value"
    if not key:
        return "has no key; write key=value without spaces"
    if equals:
        opened = next((pair for pair in BRACKETS if value.count(pair[0]) != value.count(pair[1])), None)
        if opened:
            return f"the value cannot be read, {opened[0]} and {opened[1]} do not match"
        return f"the value cannot be read; quote it twice: '{key}=\"{value}\"'"
    if following.startswith("=") or text.endswith(":"):
        return f"has no =; write {text.rstrip(':')}=value without spaces"
    groups = config_groups()
    if text in groups:
        return f"has no =; write {text}=option, e.g. {text}={groups[text][0]}"
    choices = {option: f"{group}={option}" for group in reversed(groups) for option in groups[group]}
    found = difflib.get_close_matches(text.lower(), list(choices), n=1, cutoff=0.75)
    return "has no =; write key=value" + (f". Did you mean {choices[found[0]]}?" if found else "")


def _composition(error: Exception, config_name: str, overrides: Sequence[str]) -> str:
    """What only the whole composition shows."""
    text = str(error)
    for pattern in UNKNOWN:
        if match := re.search(pattern, text):
            return _unknown_key(match[1], config_name, overrides, _composed(error))
    if match := NO_OPTION.search(text):  # with a folder of one's own, whose options only Hydra knows
        return no_such_option(f"{match[1]}={match[2]}", match[1], match[2], match[3].split())
    if match := re.search(r"Additional config directory '([^']+)' not found", text):
        return f"--config-dir={match[1]}: there is no such folder; give the one that holds folders such as optimizer/"
    if match := re.search(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"+{match[1]}: is there already; leave the + away to change it"
    return _one_line(text)


def _composed(error: BaseException) -> DictConfig | None:
    """What Hydra had composed from ``conf/`` before it came to the word it refuses: composing again takes as long."""
    trace = error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_name == "_apply_overrides_to_config":
            composed: DictConfig = trace.tb_frame.f_locals["cfg"]
            OmegaConf.set_struct(composed, False)
            composed.pop("hydra", None)
            return composed
        trace = trace.tb_next
    return None


def _compose_choices(config_name: str, choices: list[str]) -> DictConfig | None:
    from hydra import compose, initialize_config_dir

    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(config_name, choices)
    except Exception:  # another mistake beside the one that is reported
        return None


def _unknown_key(key: str, config_name: str, overrides: Sequence[str], composed: DictConfig | None) -> str:
    """A key that is not there: the keys beside it, the nearest of them, and which option of its group has it."""
    given = next((text for text in overrides if text.lstrip("+~").split("=", 1)[0] == key), key)
    groups = config_groups()
    rest = [text for text in overrides if text.split("=", 1)[0] in groups and text != given]
    composed = composed or _compose_choices(config_name, rest)
    if composed is None:
        return f"{given}: there is no such key"
    parent, _, name = key.rpartition(".")
    keys = list(_leaves(composed, ""))
    if key.startswith("hydra."):
        return f"{given}: Hydra has no such key; `--cfg hydra` shows its own"
    group = parent.split(".")[0]
    if config_name == "train" and group in groups and group not in composed and group not in OF_OTHERS:
        return group_missing(group)
    beside = [leaf.removeprefix(f"{parent}.") for leaf in keys if parent and leaf.startswith(f"{parent}.")]
    beside = [leaf for leaf in beside if "." not in leaf]
    if key.startswith("experiment/"):
        return f"{given}: write experiment={given.removeprefix('experiment/').replace('=', '/')}"
    if not beside:
        unset = [name for name in groups if config_name == "train"]  # experiment, stopping, ...: not there until chosen
        top = dict.fromkeys([*(["model"] if unset else []), *map(str, composed), *unset])
        # modle is model before it is logger.mode; augment.erase is a key of data, wherever that has it
        near = nearest(name, keys) if group in OF_OTHERS else nearest(key, top) or nearest(key, keys)
        return f"{given}: there is no such key; keys: {', '.join(top)}{near}"
    line = no_such_key(given, parent, name, beside)
    with_it = [
        option for option in groups.get(parent, []) if parent != "experiment" and name in _keys_of(parent, option)
    ]
    return line + (f" ({name} goes with {parent}={' or '.join(with_it)})" if with_it else "")


def _keys_of(group: str, option: str) -> set[str]:
    """The keys that an option of a group has, those of the option that it builds on included."""
    content = yaml.safe_load((CONF / group / f"{option}.yaml").read_text()) or {}
    bases = [base for base in content.pop("defaults", []) if isinstance(base, str) and base != "_self_"]
    inherited = [_keys_of(group, base) for base in bases]
    return set(content).union(*inherited)


def _leaves(node: Any, prefix: str) -> Iterator[str]:
    for key in node:
        child = node._get_node(key)
        yield f"{prefix}{key}"
        if hasattr(child, "items") and child._is_none() is False:
            yield from _leaves(child, f"{prefix}{key}.")
