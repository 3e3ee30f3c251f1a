"""What pyproject.toml cannot say: ``conf/`` and the commands of ``src/`` go into the wheel, within the package."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class WithConfigurations(build_py):
    """Builds the package with ``paperzoo/conf`` and ``paperzoo/_commands``; an editable one finds them beside it."""

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode:
            return
        package = Path(self.build_lib) / "paperzoo"
        for name in ("conf", "_commands"):
            shutil.rmtree(package / name, ignore_errors=True)  # of an earlier build
        shutil.copytree(ROOT / "conf", package / "conf")
        (package / "_commands").mkdir()
        for path in sorted((ROOT / "src").glob("*.py")):
            shutil.copy(path, package / "_commands")


setup(cmdclass={"build_py": WithConfigurations})
