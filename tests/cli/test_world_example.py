"""The world example: made, checked and applied as its README says, with the output it promises."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "world"


def commands() -> list[list[str]]:
    import shlex

    lines = (EXAMPLE / "README.md").read_text(encoding="utf-8").splitlines()
    return [shlex.split(line.strip())[1:] for line in lines if line.startswith("    gridctl ")]


def test_the_readme_makes_a_grid_of_4400_sites(shell: Callable) -> None:
    *steps, around_own_sites = commands()
    printed = ""
    for step in steps:
        ran = shell(*step)
        assert ran.code == 0, (step, ran.err)
        if step[:2] in (["validate", "-f"], ["site", "list"]):
            printed += ran.out
    assert printed == (EXAMPLE / "expected.txt").read_text(encoding="utf-8")
    assert around_own_sites[-2:] == ["--sites-file", "sites.csv"]


def test_a_grid_around_own_sites(shell: Callable, tmp_path: Path) -> None:
    header = "site,city,country,lat,lon,tier,served_population\n"
    own = "a-1,Lyon,FR,45.76,4.84,regional,500000\nb-1,Oslo,NO,59.91,10.75,edge,600000\n"
    (tmp_path / "sites.csv").write_text(header + own)
    assert shell("init", "mine", "--example", "world", "--sites-file", "sites.csv").code == 0
    assert shell("apply", "-f", "mine/").code == 0
    sites = json.loads(shell("site", "list", "-o", "json").out)["items"]
    assert [site["metadata"]["name"] for site in sites] == ["a-1", "b-1"]
    assert sorted(site["spec"]["tier"] for site in sites) == ["core", "edge"]


def test_a_wrong_site_table_makes_nothing(shell: Callable, tmp_path: Path) -> None:
    (tmp_path / "sites.csv").write_text("site,city,country,lat,lon,tier,served_population\na,A,FR,95,0,edge,1\n")
    ran = shell("init", "mine", "--example", "world", "--sites-file", "sites.csv")
    assert (ran.code, ran.out) == (3, "")
    assert "sites.csv:2" in ran.err
    assert not (tmp_path / "mine").exists()
