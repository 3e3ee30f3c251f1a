"""``paperzoo <command> ...``, or ``python -m paperzoo <command> ...``: the commands of ``src/`` from anywhere."""

import difflib
import runpy
import sys

from paperzoo import __version__
from paperzoo.places import COMMANDS

USAGE = """paperzoo <command> [words ...]

  train      train a paper's model: paperzoo train model=scnet
  evaluate   evaluate a run again: paperzoo evaluate <id>
  predict    apply a run's network to photos: paperzoo predict run=<id> photos/
  export     export a run's network: paperzoo export run=<id> format=onnx
  runs       list the runs
  reproduce  run a record again and compare
  sweep      run a sweep: paperzoo sweep sweeps/<question>.yaml
  report     write the report of a sweep
  zoo        the papers there are, and what one claims

paperzoo <command> --help says more."""
NAMES = [line.split()[0] for line in USAGE.splitlines() if line.startswith("  ")]


def main() -> None:
    """Run the command that the first word names, as a program of its own."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        sys.exit(0 if words else 2)
    if words[0] == "--version":
        print(f"Paperzoo {__version__}")
        return
    name = words[0]
    if name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f". Did you mean {near[0]}?" if near else ""
        print(f"error: {name}: there is no such command; commands: {', '.join(NAMES)}{hint}", file=sys.stderr)
        sys.exit(2)
    path = COMMANDS / f"{name}.py"
    sys.argv = [str(path), *words[1:]]  # what it starts itself (ranks, runs of a sweep) is this program again
    runpy.run_path(str(path), run_name="__main__")


if __name__ == "__main__":
    main()
