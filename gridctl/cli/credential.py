"""A key of an endpoint, by the variable that holds it: keys are never on a command line, where others see them."""

from __future__ import annotations

import os

from gridctl.errors import InputError


def key_in(variable: str) -> str | None:
    """The key in the variable that --api-key-env names; None when it names none. Raises: InputError for no key."""
    if not variable:
        return None
    key = os.environ.get(variable, "")
    if not key:
        raise InputError(f"the variable {variable} is not set", where="--api-key-env", fix=f"export {variable}=…")
    return key
