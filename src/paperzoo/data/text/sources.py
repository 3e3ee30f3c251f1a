"""Where texts come from; ``data.source`` names a function ``(config, data_dir) -> Text``."""

from pathlib import Path
from typing import Any, NamedTuple

from paperzoo.data.text import grammar
from paperzoo.errors import UserError


class Text(NamedTuple):
    """A whole text, and what is to be said of it."""

    content: str
    note: str = ""


def embedded(config: Any, data_dir: Path) -> Text:
    """The text of ``grammar``, ``config.characters`` long."""
    content, bits = grammar.text(config.characters)
    return Text(content, f"drawn from a grammar at {bits:.2f} bits a character")


def file(config: Any, data_dir: Path) -> Text:
    """A UTF-8 file: ``config.file`` as a path, or within ``paths.data_dir``.

    Raises:
        UserError: it is not there, cannot be read, or is no UTF-8.
    """
    given = Path(config.file).expanduser()
    path = next((each for each in (data_dir / given, given) if each.is_file()), None)
    if path is None:
        raise UserError(
            f"data={config.name}: there is no {data_dir / given}; put the text there, or set paths.data_dir (DATA_DIR) "
            "or data.file"
        )
    try:
        return Text(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as UTF-8 text ({error})") from None
