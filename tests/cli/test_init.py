"""init: a folder that appears whole, never over another; contexts and configuration."""

from __future__ import annotations

import json
from collections.abc import Callable


def test_init_makes_a_grid_and_its_context(shell: Callable) -> None:
    assert shell("init", "g").code == 0
    folder = shell.folder / "g"
    assert (folder / ".gridctl" / "grid.db").is_file()
    assert (folder / ".gitignore").read_text() == ".gridctl/\n"
    assert not list(shell.folder.glob(".g.*"))
    current = json.loads(shell("context", "current", "-o", "json").out)
    assert current["kind"] == "Context"
    assert current["folder"] == str(folder)
    assert "current context" in current["origin"]


def test_init_never_overwrites_and_force_keeps_the_old_folder(shell: Callable) -> None:
    folder = shell.folder / "g"
    folder.mkdir()
    (folder / "precious").write_text("x")
    refused = shell("init", "g")
    assert (refused.code, refused.out) == (3, "")
    assert (folder / "precious").read_text() == "x"
    assert not (folder / ".gridctl").exists()
    assert shell("init", "g", "--force").code == 0
    assert (shell.folder / "g.old-1" / "precious").read_text() == "x"
    assert (folder / "gridctl.yaml").is_file()


def test_init_says_what_to_do_where_another_grid_is_at_work(shell: Callable) -> None:
    assert "gridctl apply -f a/" in shell("init", "a", "--example", "metro").err
    inside = shell("init", "b", "--example", "metro", cwd=shell.folder / "a")
    assert "still work on another grid" in inside.err
    assert "cd b/\n  gridctl apply -f .\n" in inside.err
    again = shell("init", "elsewhere/a")
    assert f"context a stood for {shell.folder / 'a'}" in again.err


def test_init_sends_nobody_to_apply_files_of_another_grid(shell: Callable) -> None:
    said = shell("init", "pushes", "--example", "rollout").err
    assert "pushes/README.md says which grid its files are for" in said
    assert "gridctl apply" not in said


def test_a_machine_without_a_home_can_have_a_grid(shell: Callable) -> None:
    made = shell("init", "g", "--example", "metro", XDG_CONFIG_HOME="/dev/null/nowhere")
    assert (made.code, made.out) == (0, f"{shell.folder / 'g'}\n")
    assert "it is no context: cannot write the configuration" in made.err
    assert "cd g/\n  gridctl apply -f .\n" in made.err
    assert shell("apply", "-f", ".", cwd=shell.folder / "g", XDG_CONFIG_HOME="/dev/null/nowhere").code == 0


def test_settings_that_are_kept_elsewhere_stay_a_link(shell: Callable) -> None:
    kept, link = shell.folder / "dotfiles.yaml", shell.folder / "home" / ".config" / "gridctl" / "config.yaml"
    kept.write_text("color: never\n")
    link.parent.mkdir(parents=True)
    link.symlink_to(kept)
    assert shell("init", "g").code == 0
    assert link.is_symlink()
    assert "color: never" in kept.read_text()
    assert "current-context: " in kept.read_text()


def test_a_disk_that_refuses_leaves_no_half_grid(shell: Callable) -> None:
    limited = (
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); "
        "sys.argv = ['gridctl', 'init', 'g', '--example', 'metro']; runpy.run_module('gridctl', run_name='__main__')"
    )
    refused = shell.python(limited)
    assert (refused.code, refused.out) == (3, "")
    assert "File too large" in refused.err
    assert "fix: free some space" in refused.err
    assert [path.name for path in shell.folder.iterdir()] == ["home"]


def test_a_refused_init_leaves_nothing(shell: Callable) -> None:
    unknown = shell("init", "g", "--example", "metr0")
    assert (unknown.code, unknown.out) == (4, "")
    assert shell("init", "g", "--sites", "3").code == 3
    assert shell("init", "bad name!").code == 3
    assert shell("init", "", "--force").code == 3
    assert shell("init", "..", "--force").code == 3
    assert sorted(path.name for path in shell.folder.iterdir()) == ["home"]


def test_the_world_example_has_the_size_asked_for_and_applies(shell: Callable) -> None:
    assert shell("init", "w", "--example", "world", "--sites", "44", "--seed", "7").code == 0
    assert shell("apply", "-f", "w").code == 0
    assert len(shell("site", "list", "-o", "name").out.split()) == 44


def test_the_nearest_project_wins_over_the_current_context(shell: Callable) -> None:
    shell("init", "a")
    shell("init", "b")
    inside = shell.folder / "a" / "deeper"
    inside.mkdir()
    assert json.loads(shell("context", "current", "-o", "json", cwd=inside).out)["folder"] == str(shell.folder / "a")
    assert json.loads(shell("context", "current", "-o", "json").out)["folder"] == str(shell.folder / "b")
    chosen = shell("context", "current", "-o", "json", cwd=inside, GRIDCTL_CONTEXT="b")
    assert json.loads(chosen.out)["origin"] == "context b (environment GRIDCTL_CONTEXT)"


def test_contexts_are_used_listed_and_forgotten(shell: Callable) -> None:
    shell("init", "a")
    shell("init", "b")
    assert shell("context", "use", "a").code == 0
    rows = json.loads(shell("context", "list", "-o", "json").out)["items"]
    assert [(row["name"], row["current"]) for row in rows] == [("a", True), ("b", False)]
    assert shell("context", "delete", "a").code == 0
    assert (shell.folder / "a" / "gridctl.yaml").is_file()
    assert shell("context", "list", "-o", "name").out == "b\n"
    assert "did you mean b?" in shell("context", "use", "bb").err


def test_config_tells_where_a_value_comes_from(shell: Callable) -> None:
    assert shell("config", "get", "output").out == "table\n"
    assert shell("config", "set", "output", "json").code == 0
    rows = {row["key"]: row for row in json.loads(shell("config", "view", "--show-origin", "-o", "json").out)["items"]}
    assert rows["output"]["value"] == "json"
    assert rows["output"]["origin"].endswith("config.yaml")
    assert shell("config", "get", "output", GRIDCTL_OUTPUT="csv").out == "csv\n"


def test_the_configured_output_is_every_commands_default_and_a_flag_beats_it(grid: Callable) -> None:
    grid("config", "set", "output", "name")
    assert grid("site", "list").out == "fr-paris-01\nno-oslo-01\n"
    assert grid("site", "list", "-o", "csv").out.startswith("name,tier")
    assert grid("site", "list", GRIDCTL_OUTPUT="csv").out.startswith("name,tier")


def test_a_broken_configuration_names_file_and_line(shell: Callable) -> None:
    path = shell.folder / "home" / ".config" / "gridctl" / "config.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("color: auto\n\tbad\n")
    ran = shell("site", "list")
    assert (ran.code, ran.out) == (3, "")
    assert "config.yaml:2" in ran.err
