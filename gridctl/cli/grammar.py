"""The grammar: every noun and verb of `gridctl`, one line each, and where its module is.

Decides what exists at the top level and in which order help shows it. The invariant: a module is imported only when its
noun or verb is used, so `gridctl --help` and everyday commands stay fast whatever the heavy ones import.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Command, Context
    from typer._click.formatting import HelpFormatter

EXAMPLE_START = "Example"
_WHOLE = 1_000
"""Characters of a verb's summary; longer than any."""


class Word(NamedTuple):
    """A noun or a verb of the top level. `module` holds `app` (a noun) or `command` (a verb); a resource kind that has
    no verbs of its own has no module, and `kind` alone makes its app. `for_files` is the verb meant when a file stands
    where a verb would, `for_flags` the one meant when a flag does."""

    name: str
    section: str
    summary: str
    module: str = ""
    kind: str = ""
    for_files: str = ""
    for_flags: str = ""

    def load(self) -> Command:
        """Import the module and build the command."""
        if self.kind and not self.module:
            from gridctl.cli.kind import kind_app
            from gridctl.orchestrator.resources import kind_or_fail

            return _finished(self, kind_app(kind_or_fail(self.kind)))
        module = importlib.import_module(f"gridctl.cli.{self.module or self.name.replace('-', '_')}")
        app = getattr(module, "app", None)
        if app is None:
            app = typer.Typer(add_completion=False)
            app.command(self.name)(module.command)
        return _finished(self, app)


GRID, RESOURCES, WORK, LIVE, SETTINGS = "Grid", "Resources", "Traces and runs", "Live", "This tool"

WORDS: dict[str, Word] = {
    word.name: word
    for word in (
        Word("init", GRID, "create a grid: a folder of manifests and its database"),
        Word("validate", GRID, "check manifests offline", "validate"),
        Word("diff", GRID, "show what apply would change"),
        Word("apply", GRID, "create and update resources from manifests, all or nothing"),
        Word("get", GRID, "show resources of any kind"),
        Word("delete", GRID, "delete resources"),
        Word("export", GRID, "print the grid as manifests"),
        Word("explain", GRID, "describe a kind, a field, or why a request went where it went"),
        Word("event", GRID, "what changed, when, by whom and why"),
        Word("site", RESOURCES, "locations: tier, coordinates, jurisdiction, state", "site", "Site"),
        Word("cluster", RESOURCES, "GPUs at sites and the engines on them", "cluster", "Cluster"),
        Word("gpu", RESOURCES, "accelerator types", kind="Gpu"),
        Word("profile", RESOURCES, "step times of a model on a GPU: fit, validate, calibrate", "profile", "Profile"),
        Word("model", RESOURCES, "models and their variants: package, push, pull", "model", "Model"),
        Word("workload", RESOURCES, "SLA classes: objectives, jurisdiction, quality", kind="Workload"),
        Word("policy", RESOURCES, "how the router decides", "policy", "Policy"),
        Word("price", RESOURCES, "price books", kind="PriceBook"),
        Word("link", RESOURCES, "measured round-trip times between sites", kind="Link"),
        Word("gate", RESOURCES, "thresholds that a pipeline enforces", kind="Gate"),
        Word("demo", WORK, "the whole main job on a small grid, in one command"),
        Word("trace", WORK, "read, measure, convert and generate request traces"),
        Word("replay", WORK, "send a trace through the router in virtual time"),
        Word("run", WORK, "results of replays"),
        Word("sweep", WORK, "many scenarios over one trace, and which no other beats", for_files="run"),
        Word("gameday", WORK, "faults in replay: what was lost, how long recovery took, which loss hurts most"),
        Word("tokenomics", WORK, "what a run cost per million tokens, and how fast it was"),
        Word("sla", WORK, "which objectives a run met, and why it missed the others"),
        Word("report", WORK, "a run as a page to hand on: tables, map, charts; or on one screen"),
        Word("plan", WORK, "does the edge pay here; the cheapest placement for a trace"),
        Word("network", WORK, "round-trip times: estimate and validate"),
        Word("up", LIVE, "serve the grid: one OpenAI-compatible address in front of its engines"),
        Word("down", LIVE, "stop serving, letting requests under way finish"),
        Word("status", LIVE, "whether the grid is served, where, and by which plan"),
        Word("health", LIVE, "what is wrong, since when, what it affects, what to do; every error budget"),
        Word("top", LIVE, "the load of the last seconds: requests, latency, promises, dollars"),
        Word("cache", LIVE, "answers kept to be given again: hits, error bound, purge, where one came from"),
        Word("route", LIVE, "where a request would go, and why: a decision with nothing sent"),
        Word("agent", LIVE, "the agent of a site: models as wished, or as they last worked", for_flags="run"),
        Word("rollout", LIVE, "versions of models on their way to sites: status, pause, promote, undo"),
        Word("token", LIVE, "keys for clients, and for the admin API"),
        Word("engine", LIVE, "engines for trying things out: the twin behind an OpenAI-compatible port"),
        Word("doctor", LIVE, "is this machine, this grid and every engine fit to serve"),
        Word("support-bundle", LIVE, "one file for whoever helps: facts and history, no keys, no texts"),
        Word("context", SETTINGS, "which grid commands work on"),
        Word("config", SETTINGS, "settings and where they come from"),
        Word("completion", SETTINGS, "completion scripts for bash, zsh and fish"),
        Word("warmup", SETTINGS, "compile the replay engine ahead of time"),
        Word("help", SETTINGS, "topics: concepts, formats, exit codes and more", "help_topics"),
    )
}


class LazyGroup(TyperGroup):
    """The top level: answers from the table of words and imports a word's module when it is used."""

    def list_commands(self, ctx: Context) -> list[str]:
        return list(WORDS)

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        loaded = self.commands.get(cmd_name)
        if loaded is None and cmd_name in WORDS:
            loaded = WORDS[cmd_name].load()
            self.commands[cmd_name] = loaded
        return loaded

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        return self._click_resolve_command(ctx, args)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        for section in (GRID, RESOURCES, WORK, LIVE, SETTINGS):
            with formatter.section(section):
                formatter.write_dl([(word.name, word.summary) for word in WORDS.values() if word.section == section])

    def shell_complete(self, ctx: Context, incomplete: str) -> list[Any]:
        from typer._click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [CompletionItem(w.name, help=w.summary) for w in WORDS.values() if w.name.startswith(incomplete)]


class NounGroup(TyperGroup):
    """A noun: builds a verb's parser when the verb is used, because building all of them takes milliseconds."""

    infos: dict[str, Any]
    for_files: str = ""
    for_flags: str = ""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        if self.for_flags and args and args[0].startswith("--") and args[0] != "--help":
            args = [self.for_flags, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: Context) -> list[str]:
        return [*self.infos, *(name for name in self.commands if name not in self.infos)]

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        built = self.commands.get(cmd_name)
        if built is None and cmd_name in self.infos:
            built = typer.main.get_command_from_info(
                self.infos[cmd_name], pretty_exceptions_short=False, rich_markup_mode=None
            )
            _finish(built)
            self.commands[cmd_name] = built
        return built

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """The verbs, each with its whole first sentence: one cut in the middle tells verbs apart badly."""
        built = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        shown = [(name, verb.get_short_help_str(_WHOLE)) for name, verb in built if verb and not verb.hidden]
        if shown:
            with formatter.section("Commands"):
                formatter.write_dl(shown)

    def resolve_command(self, ctx: Context, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        if self.for_files and args[0] not in self.list_commands(ctx) and _is_file(args[0]):
            args = [self.for_files, *args]
        return self._click_resolve_command(ctx, args)


def _is_file(word: str) -> bool:
    """Whether a word is there as a file, or is at least called like a manifest."""
    return os.path.isfile(word) or word.lower().endswith((".yaml", ".yml", ".json"))


def _finished(word: Word, app: typer.Typer) -> Command:
    """The click command behind an app, with plain help whose examples keep their lines."""
    is_noun = bool(word.kind or app.registered_groups or app.registered_callback or len(app.registered_commands) > 1)
    if not is_noun:
        command = typer.main.get_command(app)
        _finish(command)
        command.name = word.name
        return command
    infos, app.registered_commands = app.registered_commands, []
    app.info.cls = NounGroup
    group: Any = typer.main.get_group(app)
    app.registered_commands = infos
    group.for_files = word.for_files
    group.for_flags = word.for_flags
    group.infos = {info.name or _verb_of(info): info for info in infos}
    _finish(group)
    group.name = word.name
    group.help = group.help or word.summary
    return group  # type: ignore[no-any-return]


def _verb_of(info: Any) -> str:
    return typer.main.get_command_name(info.callback.__name__)


def _finish(command: Any) -> None:
    command.rich_markup_mode = None
    if command.help:
        command.help = keep_examples(command.help)
    for child in getattr(command, "commands", {}).values():
        _finish(child)


def keep_examples(text: str) -> str:
    """Mark the example paragraphs of a help text, so that the formatter leaves their line breaks alone."""
    return "\n\n".join(
        f"\b\n{paragraph}" if paragraph.startswith(EXAMPLE_START) else paragraph for paragraph in text.split("\n\n")
    )
