"""Shipped: the profiles that come with the package, read when somebody asks for one.

They are fitted facts: `gridctl profile fit` over published operator tables, named in each profile's source.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

import msgspec

from gridctl.resources import Profile


@cache
def shipped_profiles() -> dict[str, Profile]:
    """All shipped profiles by name, in order of name."""
    folder = files("gridctl.manifest").joinpath("profiles")
    documents = [entry.read_bytes() for entry in folder.iterdir() if entry.name.endswith(".json")]
    profiles = [msgspec.json.decode(document, type=Profile) for document in documents]
    return {profile.name: profile for profile in sorted(profiles, key=lambda profile: profile.name)}
