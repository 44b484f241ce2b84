"""Everyday commands stay light: what they must never import."""

from __future__ import annotations

from collections.abc import Callable

import pytest

HEAVY = ("httpx", "rich", "numba", "numpy", "asyncio")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["site", "list"],
        ["site", "list", "-o", "json"],
        ["site", "get", "fr-paris-01"],
        ["site", "cordon", "fr-paris-01"],
        ["cluster", "--help"],
        ["event", "list"],
        ["run", "list"],
        ["cache", "status", "--help"],
        ["rollout", "--help"],
        ["apply", "-f", "grid.yaml", "--dry-run"],
        ["completion", "words", "--", "site", "get", ""],
        ["profile", "list"],
        ["profile", "get", "rtx-pro-6000.llama-3.1-8b.bf16.tp1", "-o", "yaml"],
        ["profile", "fit", "--help"],
        ["completion", "words", "--", "profile", "validate", "--profile", ""],
    ],
)
def test_everyday_commands_import_nothing_heavy(grid: Callable, arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from gridctl.cli.main import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as done:\n"
        "    assert not done.code, done.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    ran = grid.python(code)
    assert ran.code == 0, ran.err
    assert ran.err.splitlines()[-1] == "[]"
