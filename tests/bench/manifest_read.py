"""Reading 4,400 sites in each format, as a ratio to PyYAML's C loader on the same YAML text.

python tests/bench/manifest_read.py
"""

import time

import msgspec
import yaml

from gridctl.manifest import dump, parse_manifest
from gridctl.resources import Resource, Site

SITES = 4400
REPEATS = 5


def sites() -> list[Resource]:
    """Sites with labels and serverless CPU, about 20 lines of YAML each."""
    return [
        msgspec.convert(
            {
                "kind": "Site",
                "metadata": {"name": f"xx-site-{number}", "labels": {"grid": "world", "region": f"r{number % 7}"}},
                "spec": {
                    "lat": number % 180 - 89.5,
                    "lon": number % 360 - 179.5,
                    "country": "NO",
                    "tier": "edge",
                    "city": f"City {number}",
                    "population": number,
                    "cache_gib": 64,
                    "serverless": {"variants": ["small/int8"], "concurrency": 4},
                },
            },
            Site,
        )
        for number in range(SITES)
    ]


def best_seconds(task) -> float:
    """The fastest of several runs."""
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        task()
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    """Print one line for each format."""
    resources = sites()
    text = dump(resources, "yaml")
    floor = best_seconds(lambda: list(yaml.load_all(text, yaml.CSafeLoader)))
    print(f"PyYAML C loader, unchecked  {floor:6.3f} s   1.00")
    for format_ in ("yaml", "json", "jsonl", "csv"):
        data = dump(resources, format_).encode()
        seconds = best_seconds(lambda data=data, format_=format_: parse_manifest(data, name=f"sites.{format_}"))
        print(f"{format_:5} to checked resources  {seconds:6.3f} s   {seconds / floor:.2f}")


if __name__ == "__main__":
    main()
