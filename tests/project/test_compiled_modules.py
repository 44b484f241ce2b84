"""What a build may compile: modules whose classes, and all that derive from them, can be compiled together."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def compiled(root: Path) -> set[str]:
    """Dotted names of the modules that the build's hook compiles."""
    spec = importlib.util.spec_from_file_location("hatch_build", root / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    return {".".join(path.relative_to(root).with_suffix("").parts) for path in hook.sources(root)}


def derived(root: Path) -> Iterator[tuple[str, str, str]]:
    """(module, class, module of one of its bases or the base's own name) of every class in the package."""
    for path in sorted((root / "gridctl").rglob("*.py")):
        tree = ast.parse(path.read_text())
        module = ".".join(path.relative_to(root).with_suffix("").parts)
        sources = {
            alias.asname or alias.name: node.module
            for node in ast.walk(tree)
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for base in node.bases:
                    text = ast.unparse(base)
                    yield module, node.name, sources.get(text, text)


def test_every_module_that_is_to_be_compiled_is_there(root: Path, compiled: set[str]) -> None:
    missing = [name for name in compiled if not (root / Path(*name.split("."))).with_suffix(".py").is_file()]
    assert missing == []


def test_classes_that_derive_from_each_other_are_compiled_together_or_not_at_all(
    root: Path, compiled: set[str]
) -> None:
    apart = [
        (module, name, base)
        for module, name, base in derived(root)
        if base.startswith("gridctl.") and (module in compiled) != (base in compiled)
    ]
    assert apart == []


def test_the_decoders_own_classes_are_not_compiled(root: Path, compiled: set[str]) -> None:
    made = [(module, name) for module, name, base in derived(root) if base == "msgspec.Struct" and module in compiled]
    assert made == []
