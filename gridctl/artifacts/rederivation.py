"""Re-derivation: `model optimize` followed again at a site, from a recipe that came over the network.

What a recipe may ask is what a person may ask in words: a scheme, layers, a share to prune, patterns. It names no
files, and patterns that could keep a site's processor busy for ever are refused. The bytes are the same on every
machine because each weight is worked on by itself in IEEE float32 (see `rounding`); that was tried on x86-64 only, so
a machine where it does not hold sees other digests, and fetches. Invariant: the caller judges by digest alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from gridctl.artifacts.recipe import Derivation, Value
from gridctl.errors import GridctlError, InputError

MAX_THREADS = 4
"""A site has requests to serve meanwhile."""
MAX_PATTERNS = 1000
MAX_PATTERN = 200
MAX_REPEATS = 2
_REPEATED_GROUP = re.compile(r"\)\s*[*+?{]")
_REPEATS = re.compile(r"[*+{]")
_WORDS = ("scheme", "drop_layers", "prune", "ignore")


def make_variant(base: Path, out: Path, parameters: Mapping[str, Value]) -> None:
    """The derivation `optimize/1`: make in the empty folder `out` what `model optimize` makes of `base`.

    Raises: InputError for a recipe that says anything else; whatever `optimize` refuses."""
    from gridctl.artifacts.checkpoint import read_checkpoint
    from gridctl.artifacts.optimizing import optimize
    from gridctl.artifacts.pruning import read_layers, read_pruning
    from gridctl.artifacts.schemes import SCHEMES
    from gridctl.artifacts.variant import Request, plan_variant

    if set(parameters) - set(_WORDS):
        raise InputError("the recipe says more than this gridctl understands", fix="update gridctl at the site")
    scheme, prune = parameters.get("scheme"), parameters.get("prune")
    if not (scheme is None or scheme in SCHEMES) or not (prune is None or isinstance(prune, str)):
        raise InputError("the recipe's scheme or pruning is not known", fix="update gridctl at the site")
    layers = ",".join(_texts(parameters, "drop_layers"))
    request = Request(
        scheme=str(scheme) if scheme else None,
        drop=read_layers(layers) if layers else (),
        prune=read_pruning(prune) if prune else None,
        ignore=tuple(_checked(pattern) for pattern in _texts(parameters, "ignore")),
    )
    out.rmdir()
    source = read_checkpoint(base)
    optimize(source, plan_variant(source, request), request, out, threads=min(MAX_THREADS, os.cpu_count() or 1))


DERIVATIONS: Mapping[str, Derivation] = {"optimize/1": make_variant}
"""What a site can make again."""


def is_rederivable(patterns: tuple[str, ...]) -> bool:
    """Whether sites will take these patterns from a recipe."""
    try:
        return len(patterns) <= MAX_PATTERNS and all(_checked(pattern) == pattern for pattern in patterns)
    except GridctlError:
        return False


def _texts(parameters: Mapping[str, Value], key: str) -> tuple[str, ...]:
    found = parameters.get(key) or ()
    if not isinstance(found, tuple) or len(found) > MAX_PATTERNS:
        raise InputError(f"the recipe's {key} is no short list", fix="push the model again")
    return found


def _checked(pattern: str) -> str:
    """The pattern, if matching it against a name takes time that grows with the name's length, not beyond."""
    text = pattern.removeprefix("re:")
    if pattern.startswith("re:") and (
        len(text) > MAX_PATTERN or _REPEATED_GROUP.search(text) or len(_REPEATS.findall(text)) > MAX_REPEATS
    ):
        raise InputError(f"the pattern {pattern[:60]!r} may take for ever", fix="name the modules, or use one .*")
    try:
        re.compile(text)
    except (re.error, OverflowError, RecursionError):
        raise InputError(f"{pattern[:60]!r} is no pattern", fix="push the model again") from None
    return pattern
