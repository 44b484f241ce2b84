"""Manifests to write wrongly, and the problems that come back."""

from collections.abc import Callable

import pytest

from gridctl.errors import InputError
from gridctl.manifest import parse_manifest

SITE = """\
apiVersion: gridctl/v1
kind: Site
metadata:
  name: no-oslo-01
spec:
  lat: 59.91
  lon: 10.75
  country: NO
  tier: edge
"""


@pytest.fixture
def site() -> str:
    """A small sound site in YAML: `lat` stands on line 6, `country` on line 8, `tier` on line 9."""
    return SITE


@pytest.fixture
def site_json() -> str:
    """The same in JSON, on two lines: `lat`'s value stands at 2:18."""
    return (
        '{"kind": "Site", "metadata": {"name": "no-oslo-01"},\n'
        ' "spec": {"lat": 59.91, "lon": 10.75, "country": "NO", "tier": "edge"}}'
    )


Problems = Callable[..., list[InputError]]


@pytest.fixture
def problems() -> Problems:
    """Every problem of a manifest, in order."""

    def found(data: str | bytes, name: str = "f.yaml") -> list[InputError]:
        with pytest.raises(InputError) as caught:
            parse_manifest(data.encode() if isinstance(data, str) else data, name=name)
        first = caught.value
        assert all(isinstance(one, InputError) for one in first.related)
        return [first, *(one for one in first.related if isinstance(one, InputError))]

    return found


@pytest.fixture
def problem(problems: Problems) -> Callable[..., tuple[str | None, str, str]]:
    """Where, what and fix of a manifest's only problem."""

    def found(data: str | bytes, name: str = "f.yaml") -> tuple[str | None, str, str]:
        (one,) = problems(data, name)
        assert one.fix, "every problem says how to repair it"
        return one.where, one.what, one.fix

    return found
