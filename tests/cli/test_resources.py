"""Resource commands end to end, each a process."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest


def _names(grid: Callable, noun: str) -> list[str]:
    return grid(noun, "list", "-o", "name").out.split()


def test_apply_creates_then_finds_nothing_to_do(shell: Callable, manifest: Path) -> None:
    made = shell("init", "g")
    assert (made.code, made.out) == (0, f"{shell.folder / 'g'}\n")
    first = shell("apply", "-f", str(manifest), "-o", "json")
    assert first.code == 0
    listed = json.loads(first.out)
    assert listed["apiVersion"] == "gridctl/v1"
    assert listed["kind"] == "ChangeList"
    assert [item["action"] for item in listed["items"]] == ["created"] * 5
    assert first.err == "5 created in grid g\n"
    again = shell("apply", "-f", "-", stdin=manifest.read_text())
    assert again.out.count("unchanged") == 5
    assert again.err == "5 unchanged in grid g\n"


def test_apply_is_all_or_nothing_and_reports_every_problem(grid: Callable, manifest: Path) -> None:
    broken = manifest.read_text().replace("59.9", "95").replace("gpus: 4", "gpsu: 4").replace("Oslo", "Bergen")
    ran = grid("apply", "-f", "-", stdin=broken)
    assert (ran.code, ran.out) == (3, "")
    assert "<stdin>:4:13" in ran.err
    assert "spec.gpsu is not a field" in ran.err
    assert "Bergen" not in grid("site", "get", "no-oslo-01").out


def test_a_dry_run_checks_references_and_writes_nothing(grid: Callable) -> None:
    ran = grid("cluster", "register", "c", "--site", "nowhere", "--gpu", "l4", "--gpus", "1", "--dry-run")
    assert (ran.code, ran.out) == (3, "")
    assert "nowhere" in ran.err
    good = grid("cluster", "register", "c", "--site", "fr-paris-01", "--gpu", "l4", "--gpus", "1", "--dry-run")
    assert good.code == 0
    assert "would create" in good.out
    assert _names(grid, "cluster") == ["oslo-gpu"]


def test_diff_exits_10_only_when_asked_and_only_when_something_differs(grid: Callable, manifest: Path) -> None:
    changed = manifest.read_text().replace("tier: edge", "tier: metro")
    plain = grid("diff", "-f", "-", stdin=changed)
    assert plain.code == 0
    coded = grid("diff", "-f", "-", "--exit-code", "-o", "csv", stdin=changed)
    assert coded.code == 10
    assert list(csv.DictReader(io.StringIO(coded.out))) == [
        {
            "action": "update",
            "kind": "Site",
            "name": "fr-paris-01",
            "path": "spec.tier",
            "before": "edge",
            "after": "metro",
        }
    ]
    same = grid("diff", "-f", str(manifest), "--exit-code")
    assert same.code == 0
    assert same.err == "no differences\n"


def test_validate_needs_no_grid_and_checks_the_references_of_a_whole_one(shell: Callable, manifest: Path) -> None:
    assert shell("validate", "-f", str(manifest), "-o", "csv").out == (
        "kind,resources\nSite,2\nCluster,1\nModel,1\nWorkload,1\n"
    )
    part = manifest.read_text().split("---\n", 1)[1]
    assert shell("validate", "-f", "-", stdin=part).code == 0
    whole = shell("validate", "-f", "-", "--whole", stdin=part)
    assert (whole.code, whole.out) == (3, "")
    assert "no-oslo-01" in whole.err


def test_what_get_and_export_print_applies_again(grid: Callable) -> None:
    for words in (
        ["get", "site", "-o", "yaml"],
        ["get", "cluster", "-o", "json"],
        ["export"],
        ["export", "site", "-o", "csv"],
    ):
        printed = grid(*words).out
        path = grid.folder / "again.csv"
        path.write_text(printed)
        source = ["-f", str(path)] if "csv" in words else ["-f", "-"]
        again = grid("apply", *source, "-o", "jsonl", stdin=printed)
        assert again.code == 0, again.err
        assert {json.loads(line)["action"] for line in again.out.splitlines()} == {"unchanged"}, words


def test_list_prints_every_format(grid: Callable) -> None:
    assert grid("site", "list", "-o", "table").out.splitlines()[1].split()[:5] == [
        "fr-paris-01",
        "edge",
        "FR",
        "Paris",
        "active",
    ]
    document = json.loads(grid("site", "list", "-o", "json").out)
    assert document["kind"] == "SiteList"
    assert [item["spec"]["state"] for item in document["items"]] == ["active", "active"]
    assert "| fr-paris-01" in grid("site", "list", "-o", "markdown").out
    rows = list(csv.DictReader(io.StringIO(grid("cluster", "list", "-o", "csv").out)))
    assert rows[0]["deployments"] == '["tiny/bf16:2x1"]'
    assert rows[0]["gpus_used"] == "2"


def test_get_of_one_name_is_that_object(grid: Callable) -> None:
    document = json.loads(grid("get", "site/no-oslo-01", "-o", "json").out)
    assert (document["kind"], document["metadata"]["name"]) == ("Site", "no-oslo-01")


def test_built_in_gpus_are_listed_and_cannot_be_deleted(grid: Callable) -> None:
    assert "l40s" in _names(grid, "gpu")
    assert json.loads(grid("gpu", "get", "l4", "-o", "json").out)["spec"]["memory_gib"] == 24.0
    assert grid("gpu", "delete", "l4").code == 3


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("tier=edge", "fr-paris-01"),
        ("country!=FR", "no-oslo-01"),
        ("carrier=a", "fr-paris-01"),
        ("!carrier", "no-oslo-01"),
        ("tier=core,carrier", ""),
    ],
)
def test_selectors_choose_by_field_and_label(grid: Callable, selector: str, names: str) -> None:
    assert grid("site", "list", "-l", selector, "-o", "name").out.split() == names.split()


def test_clusters_answer_for_their_sites(grid: Callable) -> None:
    assert grid("cluster", "list", "-l", "country=NO", "-o", "name").out == "oslo-gpu\n"


def test_a_mistyped_selector_key_gets_a_suggestion(grid: Callable) -> None:
    assert "did you mean tier?" in grid("site", "list", "-l", "teir=edge").err
    cordon = grid("site", "cordon", "-l", "teir=edge")
    assert (cordon.code, cordon.out) == (4, "")


def test_site_register_adds_one_and_refuses_another_of_its_name(grid: Callable) -> None:
    words = ["site", "register", "se-umea-01", "--lat", "63.8", "--country", "SE", "--label", "carrier=b"]
    assert grid(*words, "--lon", "20.3").code == 0
    assert grid(*words, "--lon", "20.3").out.split()[-1] == "unchanged"
    other = grid(*words, "--lon", "21")
    assert (other.code, other.out) == (3, "")
    assert "exists and differs" in other.err


def test_register_errors_point_at_the_flag(grid: Callable) -> None:
    ran = grid("site", "register", "Bad", "--lat", "95", "--lon", "1", "--country", "FR")
    assert (ran.code, ran.out) == (3, "")
    assert "where: --lat" in ran.err
    assert "where: NAME" in ran.err


def test_cluster_register_reads_deployments(grid: Callable) -> None:
    ran = grid(
        "cluster", "register", "p", "--site", "fr-paris-01", "--gpu", "l40s", "--gpus", "4", "--deploy", "tiny/bf16:2x2"
    )
    assert ran.code == 0, ran.err
    spec = json.loads(grid("cluster", "get", "p", "-o", "json").out)["spec"]
    (deployment,) = spec["deployments"]
    assert (deployment["variant"], deployment["replicas"], deployment["tensor_parallel"]) == ("tiny/bf16", 2, 2)
    assert (
        grid("cluster", "register", "q", "--site", "fr-paris-01", "--gpu", "l4", "--gpus", "1", "--deploy", "a:b").code
        == 3
    )


def test_cordon_is_an_event_with_a_reason_and_survives_apply(grid: Callable, manifest: Path) -> None:
    assert grid("site", "cordon", "fr-paris-01", "--reason", "power").code == 0
    applied = grid("apply", "-f", str(manifest))
    assert "keeps the state an operator gave it" in applied.err
    assert "cordoned" in grid("site", "get", "fr-paris-01").out
    events = json.loads(grid("event", "list", "--for", "site/fr-paris-01", "-o", "json").out)["items"]
    assert [event["action"] for event in events] == ["created", "updated"]
    assert events[1]["cause"] == "site cordon: power"
    assert events[1]["actor"] == "ada"
    assert events[1]["changes"] == [{"path": "spec.state", "before": "active", "after": "cordoned"}]
    assert grid("site", "uncordon", "fr-paris-01").code == 0
    assert "active" in grid("site", "get", "fr-paris-01").out


def test_cordon_of_several_is_all_or_nothing(grid: Callable) -> None:
    ran = grid("site", "cordon", "fr-paris-01", "nowhere")
    assert (ran.code, ran.out) == (4, "")
    assert "cordoned" not in grid("site", "list").out


def test_cluster_drain_changes_the_cluster(grid: Callable) -> None:
    assert grid("cluster", "drain", "oslo-gpu").code == 0
    assert "draining" in grid("cluster", "list").out


def test_delete_is_refused_while_something_refers_and_works_together(grid: Callable, manifest: Path) -> None:
    refused = grid("delete", "site", "no-oslo-01")
    assert (refused.code, refused.out) == (3, "")
    assert "still in use" in refused.err
    missing = grid("delete", "site", "nowhere", "fr-paris-01")
    assert (missing.code, missing.out) == (4, "")
    assert grid("delete", "site", "fr-paris-01", "--dry-run").out.endswith("would delete\n")
    together = grid("delete", "-f", str(manifest))
    assert together.code == 0
    assert together.err == "5 deleted in grid grid\n"
    assert _names(grid, "site") == []


def test_many_resources_apply_as_counts(grid: Callable) -> None:
    lines = [
        json.dumps(
            {
                "apiVersion": "gridctl/v1",
                "kind": "Site",
                "metadata": {"name": f"s-{n}"},
                "spec": {"lat": 1, "lon": n, "country": "GA", "tier": "edge"},
            }
        )
        for n in range(21)
    ]
    text = "\n".join(lines) + "\n"
    assert grid("apply", "-f", "-", "--dry-run", stdin=text).out.split() == (
        ["KIND", "CREATED", "UPDATED", "UNCHANGED", "Site", "21", "0", "0"]
    )
    assert len(grid("apply", "-f", "-", "-o", "wide", stdin=text).out.splitlines()) == 22


def test_explain_describes_a_field(shell: Callable) -> None:
    document = json.loads(shell("explain", "site.lat", "-o", "json").out)
    (field,) = document["items"]
    assert field["field"] == "spec.lat"
    assert "degrees north" in shell("site", "explain", "lat").out.lower() or field["description"]
    assert "workload" in shell("explain").out


def test_a_reference_to_nothing_is_told_at_its_line_and_column(grid: Callable, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("kind: Cluster\nmetadata: {name: c}\nspec: {site: nowhere, gpu: l4, gpus: 1}\n")
    for command in (("apply",), ("apply", "--dry-run"), ("diff",), ("validate", "--whole")):
        ran = grid(*command, "-f", "c.yaml")
        assert (ran.code, ran.out) == (3, "")
        assert "where: c.yaml:3:14\n" in ran.err
    assert grid("cluster", "get", "c").code == 4


def test_every_user_of_a_deleted_site_is_named_and_no_other_site_is_suggested(grid: Callable) -> None:
    link = "kind: Link\nmetadata: {name: l}\nspec: {source: no-oslo-01, target: fr-paris-01, rtt_ms: 30}\n"
    assert grid("apply", "-f", "-", stdin=link).code == 0
    refused = grid("site", "delete", "no-oslo-01")
    assert (refused.code, refused.out) == (3, "")
    assert "where: cluster oslo-gpu, spec.site" in refused.err
    assert "where: link l, spec.source" in refused.err
    assert refused.err.count("still in use") == 2
    assert "did you mean" not in refused.err
