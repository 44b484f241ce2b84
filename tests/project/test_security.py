"""What the package must never do: run code from data, open a socket unasked, look at private files."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "gridctl"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "torch",
    "subprocess",
    "telnetlib",
}
FORBIDDEN_NAMES = {"eval", "exec", "__import__"}
FORBIDDEN_CALLS = {"os.system", "os.popen", "torch.load", "numpy.load(allow_pickle)", "yaml.load", "yaml.unsafe_load"}


ALLOWED = {
    # Docker's configuration names a helper that holds secrets; a fixed prefix and a checked name make the program's.
    "artifacts/credentials.py": ["subprocess"],
    # The command that reloads an engine, named by who starts the agent: an argument list, no shell.
    "agent/engine.py": ["subprocess"],
    # The Python that a person names with --python runs two scripts of ours, without a shell and without network.
    "artifacts/interpreter.py": ["subprocess"],
    "artifacts/compressing_script.py": ["torch", "torch"],
    "artifacts/measuring_script.py": ["torch", "torch"],
}


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def offences(tree: ast.AST) -> list[str]:
    """What a module does that none may."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN_MODULES]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module] if node.module.split(".")[0] in FORBIDDEN_MODULES else []
        elif isinstance(node, ast.Call):
            name = dotted(node.func)
            keywords = {keyword.arg: keyword.value for keyword in node.keywords}
            if name in FORBIDDEN_CALLS or name in FORBIDDEN_NAMES:
                found.append(name)
            for flag in ("shell", "allow_pickle"):
                value = keywords.get(flag)
                if value is not None and not (isinstance(value, ast.Constant) and value.value is False):
                    found.append(f"{flag}=")
    return found


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.relative_to(PACKAGE).as_posix())
def test_no_module_runs_code_from_data(source: Path) -> None:
    allowed = ALLOWED.get(source.relative_to(PACKAGE).as_posix(), [])
    assert offences(ast.parse(source.read_text(encoding="utf-8"))) == allowed


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from marshal import loads",
        "eval('1')",
        "os.system('true')",
        "f(shell=True)",
        "numpy.load(path, allow_pickle=flag)",
        "yaml.load(text)",
        "def f():\n    import torch",
    ],
)
def test_the_check_sees_what_it_forbids(code: str) -> None:
    assert len(offences(ast.parse(code))) == 1


WATCH = """
import os, sys
seen = []
private = tuple(os.path.join(os.path.expanduser("~"), name) for name in (".ssh", ".aws", ".netrc", ".gnupg", ".kube"))
def watch(event, arguments):
    if event.startswith("socket.") and event != "socket.gethostname":
        seen.append(event)
    elif event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        seen.append(event)
    elif event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith(private):
        seen.append(f"{event} {arguments[0]}")
sys.addaudithook(watch)
try:
    WHAT
except SystemExit as done:
    assert not done.code, done.code
print(seen, file=sys.stderr)
"""
MAIN = "from gridctl.cli.main import main; main({!r})"


def watched(folder: Path, what: str) -> str:
    """Run `what` in a fresh Python that notes what it must not do; its last word."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GRIDCTL_", "XDG_"))}
    environment |= {"HOME": str(folder), "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", WATCH.replace("WHAT", what)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stderr.splitlines()[-1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with secrets in it and a grid."""
    folder = tmp_path_factory.mktemp("home")
    for name in (".ssh", ".aws"):
        (folder / name).mkdir()
        (folder / name / "config").write_text("secret")
    (folder / ".netrc").write_text("secret")
    assert watched(folder, MAIN.format(["init", "grid", "--example", "metro"])) == "[]"
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["apply", "-f", "grid/"],
        ["site", "list"],
        ["cluster", "list", "-o", "json"],
        ["validate", "-f", "grid/"],
        ["trace", "stat", "grid/trace.jsonl.gz"],
        ["event", "list"],
        ["help", "security"],
        ["config", "view"],
    ],
    ids=" ".join,
)
def test_commands_open_no_socket_start_no_process_and_read_no_secret(home: Path, arguments: list[str]) -> None:
    assert watched(home, MAIN.format(arguments)) == "[]"


def test_importing_the_package_does_nothing(home: Path) -> None:
    assert watched(home, "import gridctl") == "[]"


def test_the_watch_sees_what_it_watches(home: Path) -> None:
    assert "socket" in watched(home, "import socket; socket.socket().close()")
    assert ".ssh" in watched(home, "open(os.path.expanduser('~/.ssh/config')).close()")
