"""The config groups in ``conf/``, read without Hydra."""

from functools import lru_cache

from paperzoo.places import CONF

OF_OTHERS = ("augment", "experiment")  # groups that set keys of others and have none of their own


@lru_cache
def config_groups() -> dict[str, list[str]]:
    """Every config group in conf/ with its options; those of ``experiment`` stand in folders."""
    groups = {}
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir()):
        files = (file for file in folder.rglob("*.yaml") if not file.name.startswith("_"))  # _: what others build on
        groups[folder.name] = sorted(file.relative_to(folder).with_suffix("").as_posix() for file in files)
    return groups
