"""Build hook: the gateway's data path compiled to machine code, where the builder asks for it; else plain Python.

    GRIDCTL_COMPILED=1 python -m pip install .      a wheel for this machine's Python, needs mypy and a C compiler
    python hatch_build.py FOLDER                    the same, in place, in a copy of the source tree

The modules below are ordinary typed Python, and that is what runs when nothing was compiled: same results for twice the
processor time a request. mypyc reads their annotations and keeps their semantics; what it checks beyond Python is that
an argument is of the class that it says. What a decoder decodes into must stand in other modules: it finds its types by
name, which compiled classes do not keep. Decides only what is compiled: what a request passes through.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

SWITCH = "GRIDCTL_COMPILED"
GROUP = "gridctl_data_path"
MODULES = {
    "gateway": (
        "answer answer_head attempt cache_word caching chunks client deadlines ending engine engine_head "
        "exchange forms head hedging keeping limits outbox plain pool questions recall recipient reply request_reader "
        "retries routes serving settling single_flight sse templates trace_context trying unattended upstream usage "
        "visit"
    ),
    "broker": (
        "ask blocks body broker choice courtesies groups keys learning menu origins quota reception seen splice "
        "standing"
    ),
    "health": "condition window",
    "signals": "finished meter",
    "traces": "recorder",
}
"""Rooms of the package and the modules in them that every request passes through."""


def sources(root: Path) -> list[Path]:
    """The modules to compile, in the tree at `root`."""
    return [root / "gridctl" / room / f"{name}.py" for room, names in MODULES.items() for name in names.split()]


def compile_in_place(root: Path) -> list[Path]:
    """Compile the modules of the tree at `root` beside their sources; what was built."""
    names = [str(path.relative_to(root)) for path in sources(root)]
    program = (
        "import sys; from setuptools import setup; from mypyc.build import mypycify; "
        f"setup(name={GROUP!r}, packages=[], ext_modules=mypycify(sys.argv[1:], group_name={GROUP!r}, "
        "opt_level='3', debug_level='0'), script_args=['-q', 'build_ext', '--inplace'])"
    )
    # What other modules' types leave to be desired is the linters' business, not a build's.
    subprocess.run([sys.executable, "-c", program, "--follow-imports=silent", *names], cwd=root, check=True)
    return sorted([*root.glob(f"{GROUP}__mypyc*.so"), *(root / "gridctl").glob("*/*.so")])


def is_wanted() -> bool:
    """Whether the builder asked for compiled modules."""
    return os.environ.get(SWITCH, "") not in ("", "0")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # compiled by hand, without the build's own tools
    pass
else:

    class CompiledHook(BuildHookInterface[Any]):
        """Puts the compiled modules into a wheel, which then is for one kind of machine and one Python.

        They are built in a copy: a source tree with compiled modules in it would go on running them when their
        sources change."""

        PLUGIN_NAME = "custom"
        _copy: tempfile.TemporaryDirectory[str] | None = None

        def dependencies(self) -> list[str]:
            """What a build needs beside hatchling: the compiler, and the libraries whose types it has to see."""
            return ["mypy>=1.13", "setuptools>=75", "msgspec>=0.19", "numpy>=2.0"] if self._is_asked else []

        @property
        def _is_asked(self) -> bool:
            return self.target_name == "wheel" and is_wanted()

        def initialize(self, version: str, build_data: dict[str, Any]) -> None:
            """Called by hatchling before a wheel is built; does nothing unless it was asked to."""
            if not self._is_asked or version == "editable":
                return
            self._copy = tempfile.TemporaryDirectory(prefix="gridctl-build-")
            root = Path(self._copy.name)
            shutil.copytree(Path(self.root) / "gridctl", root / "gridctl", ignore=shutil.ignore_patterns("*.so"))
            shutil.copy(Path(self.root) / "pyproject.toml", root)
            built = compile_in_place(root)
            build_data["pure_python"] = False
            build_data["infer_tag"] = True
            build_data["force_include"].update({str(path): str(path.relative_to(root)) for path in built})

        def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
            """Called once the wheel is written."""
            if self._copy is not None:
                self._copy.cleanup()


if __name__ == "__main__":
    for path in compile_in_place(Path(sys.argv[1]).resolve()):
        sys.stdout.write(f"{path}\n")
