"""The live commands as a user runs them: what they print, where they fail, and that nothing secret gets out."""

from __future__ import annotations

import json
import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from gridctl.render.schemas import schema_of

ENGINES = """\
apiVersion: gridctl/v1
kind: Cluster
metadata: {name: oslo-gpu, labels: {console: "https://user:hunter2hunter2@10.0.0.1/"}}
spec: {site: no-oslo-01, gpu: l40s, gpus: 4, deployments: [{variant: tiny/bf16, replicas: 2, credential_env: OSLO_KEY,
       endpoints: ["http://127.0.0.1:9", "http://127.0.0.1:19/v1"]}]}
"""


def held(text: str, kind: str) -> Any:
    """The printed object, once its schema has no complaint and names every key."""
    printed = json.loads(text)
    schema = schema_of(kind)
    jsonschema.Draft202012Validator(schema).validate(printed)
    item = schema["properties"]["items"]["items"] if "items" in schema["properties"] else schema
    for one in printed.get("items", [printed]):
        assert set(one) <= set(item["properties"])
    return printed


@pytest.fixture
def live(grid: Any, tmp_path: Path) -> Any:
    """A shell on a grid whose engines have addresses, where nobody listens."""
    (tmp_path / "engines.yaml").write_text(ENGINES, encoding="utf-8")
    done = grid("apply", "-f", str(tmp_path / "engines.yaml"))
    assert done.code == 0, done.err
    return grid


def test_up_says_what_it_would_serve_and_starts_nothing(live: Any) -> None:
    done = live("up", "--dry-run", "-o", "json")
    assert done.code == 0, done.err
    items = held(done.out, "BackendList")["items"]
    assert [(one["row"], one["replica"], one["credential_env"]) for one in items] == [
        (0, 0, "OSLO_KEY"),
        (1, 1, "OSLO_KEY"),
    ]
    assert "would serve anybody at http://127.0.0.1:8080 with 1 worker, policy grid" in done.err
    for output in ("table", "wide", "jsonl", "yaml", "csv", "markdown", "name"):
        assert live("up", "--dry-run", "-o", output).code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--listen", "nowhere"], 2, "not an address to listen on"),
        (["--listen", "0.0.0.0:1"], 3, "unencrypted"),
        (["--require-key"], 3, "every caller needs a key"),
        (["--workers", "0"], 2, "0 is not in the range"),
        (["--workers", "100000"], 2, "100000 workers"),
        (["--policy", "grdi"], 4, "did you mean grid"),
        (["--price-book", "gold"], 4, "no price book gold"),
        (["--tls-cert", "x.pem"], 2, "certificate and its key"),
        (["--tls-cert", "x.pem", "--tls-key", "y.pem"], 3, "cannot be read"),
        (["--max-body", "lots"], 2, "not an amount"),
        (["--deadline", "0"], 2, "deadline of 0 s"),
        (["--grace", "-1s"], 2, "not an amount"),
        (["--origins", "none.csv"], 4, "no such file"),
        (["--origin-header", "authorization"], 2, "cannot carry an origin"),
        (["--admin", "unix:/x"], 2, "not an address"),
        (["--admin", "10.0.0.1:8081"], 3, "admin API would be open"),
        (["--backends", "1"], 3, "room for 1"),
    ],
    ids=range(17),
)
def test_what_cannot_be_is_said_before_anything_starts(live: Any, arguments: list[str], code: int, words: str) -> None:
    done = live("up", "--dry-run", *arguments)
    assert done.code == code, done.err
    assert words in done.err
    assert done.out == ""


def test_networks_and_their_places_are_read_with_line_numbers(live: Any) -> None:
    file = live.folder / "origins.csv"
    file.write_text("cidr,place\n# offices\n10.0.0.0/8,fr-paris-01\n2001:db8::/32,59.9,10.7\n")
    assert live("up", "--dry-run", "--origins", str(file)).code == 0
    for text, words in (("10.0.0.1/8,x\n", "not a network"), ("10.0.0.0/8\n", "without a place")):
        file.write_text("cidr,place\n" + text)
        done = live("up", "--dry-run", "--origins", str(file))
        assert done.code == 3
        assert words in done.err
        assert f"{file}:2" in done.err


def test_without_engines_or_a_grid_up_says_how_to_get_them(grid: Any, shell: Any) -> None:
    done = grid("up", "--dry-run")
    assert done.code == 3
    assert "says where its engines listen" in done.err
    shell.environment.pop("GRIDCTL_STORE")
    assert shell("up").code == 4


def test_nothing_running_is_unreachable_for_status_and_no_failure_for_down(grid: Any) -> None:
    status = grid("status")
    assert (status.code, status.out) == (5, "")
    assert "gridctl up --detach" in status.err
    for arguments in (["down"], ["down", "--now"], ["down", "--dry-run"]):
        done = grid(*arguments)
        assert done.code == 0
        assert "no orchestrator runs" in done.err


def test_a_token_is_printed_once_alone_and_listed_never(grid: Any) -> None:
    made = grid("token", "create", "shop", "--tenant", "acme", "--workload", "chat", "--expires", "90d")
    assert made.code == 0, made.err
    token = made.out.strip()
    assert len(token) == 51
    listed = grid("token", "list", "-o", "json")
    (item,) = held(listed.out, "KeyList")["items"]
    assert (item["name"], item["tenant"], item["workload"], item["state"]) == ("shop", "acme", "chat", "active")
    assert token not in listed.out + grid("event", "list", "-o", "json").out
    assert grid("token", "create", "shop").code == 3
    assert grid("token", "create", "x", "--workload", "chatt").code == 4
    assert grid("token", "create", "x", "--expires", "soon").code == 2
    assert grid("token", "create", "y", "--dry-run").code == 0
    assert [one["name"] for one in json.loads(grid("token", "list", "--all", "-o", "json").out)["items"]] == ["shop"]
    held(grid("token", "create", "eye", "--role", "viewer", "-o", "json").out, "MadeKey")
    assert grid("token", "revoke", "shp").code == 4
    assert grid("token", "revoke", "shop", "--reason", "leaked").code == 0
    assert "token revoke: leaked" in grid("event", "list").out
    assert [one["name"] for one in json.loads(grid("token", "list", "-o", "json").out)["items"]] == ["eye"]


def test_the_doctor_finds_what_is_wrong_and_says_what_helps(live: Any) -> None:
    done = live("doctor", "--exit-code", "-o", "json", "--listen", "127.0.0.1:0")
    assert done.code == 10
    items = held(done.out, "FindingList")["items"]
    found = {(one["check"], one["verdict"]) for one in items}
    assert {("database", "OK"), ("permissions", "OK"), ("port", "OK"), ("engines", "FAIL")} <= found
    wrong = " ".join(one["found"] for one in items if one["check"] == "engines")
    assert "OSLO_KEY" in wrong
    assert "nothing listens there" in wrong
    assert all(one["fix"] for one in items if one["verdict"] != "OK")
    live.folder.joinpath("grid/.gridctl/grid.db").chmod(0o644)
    loose = live("doctor", "--no-engines", "--listen", "127.0.0.1:0", "-o", "json")
    assert loose.code == 0
    (item,) = [one for one in json.loads(loose.out)["items"] if one["check"] == "permissions"]
    assert item["verdict"] == "WARN"
    assert "chmod 0600" in item["fix"]


def test_the_doctor_helps_where_there_is_no_grid(shell: Any) -> None:
    done = shell("doctor", "-o", "json")
    assert done.code == 0, done.err
    (grid,) = [one for one in json.loads(done.out)["items"] if one["check"] == "grid"]
    assert grid["verdict"] == "WARN"
    assert "gridctl init" in grid["fix"]


def test_a_damaged_database_is_a_finding_and_not_a_crash(grid: Any) -> None:
    path = grid.folder / "grid/.gridctl/grid.db"
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xa5" * (len(content) - 4096)
    path.write_bytes(content)
    done = grid("doctor", "--no-engines", "-o", "json")
    assert done.code == 0, done.err
    assert ("database", "FAIL") in {(one["check"], one["verdict"]) for one in json.loads(done.out)["items"]}


def test_planted_secrets_never_get_into_a_support_bundle(live: Any) -> None:
    token = live("token", "create", "shop").out.strip()
    planted = [token, "hunter2hunter2", "planted-in-the-environment", "planted-in-a-cause", "planted-in-the-log"]
    live("site", "cordon", "fr-paris-01", "--reason", "password=planted-in-a-cause")
    log = live.folder / "grid/.gridctl/live/log"
    log.mkdir(parents=True)
    (log / "up.log").write_text(f"Authorization: Bearer planted-in-the-log\n{token}\nplanted-in-the-environment\n")
    out = live.folder / "b.zip"
    done = live(
        "support-bundle",
        "--out",
        str(out),
        "-o",
        "json",
        "--listen",
        "127.0.0.1:0",
        OSLO_KEY="planted-in-the-environment",
    )
    assert done.code == 0, done.err
    parts = {one["part"]: one["bytes"] for one in held(done.out, "BundlePartList")["items"]}
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    with zipfile.ZipFile(out) as archive:
        held_parts = {name: archive.read(name) for name in archive.namelist()}
    assert {name: len(content) for name, content in held_parts.items()} == parts
    assert set(json.loads(held_parts["contents.json"])["parts"]) == set(parts) - {"contents.json"}
    for secret in planted:
        for name, content in held_parts.items():
            assert secret.encode() not in content, (secret, name)
    assert b"fr-paris-01" in held_parts["grid.yaml"]
    assert b"site cordon" in held_parts["events.json"]
    assert live("support-bundle", "--out", str(out)).code == 3
    assert live("support-bundle", "--dry-run").code == 0
    assert not [path for path in live.folder.iterdir() if path.name.startswith("gridctl-support")]


def test_a_context_elsewhere_is_remembered_without_its_token(shell: Any) -> None:
    token = shell.folder / "token"
    token.write_text("gridctl_secret")
    done = shell("context", "add", "prod", "--url", "https://127.0.0.1:1", "--token-file", str(token))
    assert done.code == 0, done.err
    (config,) = (shell.folder / "home/.config/gridctl").glob("config.yaml")
    assert "gridctl_secret" not in config.read_text()
    assert str(token) in config.read_text()
    listed = json.loads(shell("context", "list", "-o", "json").out)["items"]
    assert [(one["name"], one["url"], one["folder"]) for one in listed] == [("prod", "https://127.0.0.1:1", None)]
    for arguments in (["site", "list"], ["status"], ["token", "list"], ["apply", "-f", os.devnull]):
        done = shell(*arguments)
        assert done.code in (3, 5), (arguments, done.err)
        assert done.out == ""
    assert "cannot be reached" in shell("site", "list").err
    assert shell("run", "list").code == 3
    assert shell("up").code == 3
    assert shell("context", "delete", "prod").code == 0
    assert str(token) not in config.read_text()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ([], 2),
        (["--url", "http://grid.example:80"], 3),
        (["--url", "nonsense"], 3),
        (["--folder", "/nowhere"], 4),
        (["--folder", "/tmp", "--token-env", "X"], 2),
        (["--url", "https://x", "--token-env", "X", "--token-file", "y"], 2),
    ],
    ids=range(6),
)
def test_a_context_that_cannot_be_is_refused(shell: Any, arguments: list[str], code: int) -> None:
    done = shell("context", "add", "prod", *arguments)
    assert done.code == code, done.err
    assert shell("context", "add", "bad name", "--url", "https://x").code == 3
