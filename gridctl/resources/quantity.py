"""Annotated number types shared by the kinds: a range and a meaning, checked when a manifest is read.

Every float is bounded on both sides, so NaN and infinity are refused by the same rule. Patterns end in `$(?!\\n)`,
because Python's `$` alone also matches before a last line break.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

Name = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$(?!\n)",
        description="lower-case letters, digits, '-' and '.'; 1 to 63 characters",
    ),
]
VariantRef = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?/[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$(?!\n)",
        description="model/variant, for example llama-3.1-8b/fp8",
    ),
]
CountryCode = Annotated[str, Meta(pattern=r"^[A-Z]{2}$(?!\n)", description="ISO 3166-1 alpha-2, for example FR")]
JurisdictionCode = Annotated[str, Meta(pattern=r"^[A-Z][A-Z0-9-]{0,15}$(?!\n)", description="for example EU, US, CH")]
Text = Annotated[str, Meta(max_length=256)]

Latitude = Annotated[float, Meta(ge=-90, le=90, description="degrees north")]
Longitude = Annotated[float, Meta(ge=-180, le=180, description="degrees east")]
Fraction = Annotated[float, Meta(ge=0, le=1)]
Milliseconds = Annotated[float, Meta(ge=0, le=3_600_000)]
PositiveMilliseconds = Annotated[float, Meta(gt=0, le=3_600_000)]
Seconds = Annotated[float, Meta(ge=0, le=864_000)]
Usd = Annotated[float, Meta(ge=0, le=1_000_000)]
Gib = Annotated[float, Meta(ge=0, le=1_000_000)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
PositiveCount = Annotated[int, Meta(ge=1, le=1_000_000)]
Share = Annotated[float, Meta(ge=0, le=1_000_000)]
PositiveRate = Annotated[float, Meta(gt=0, le=1_000_000)]
