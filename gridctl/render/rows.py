"""Rows in every output format: the one place that knows what `-o table|wide|json|jsonl|yaml|csv|markdown|name` means.

Decides the JSON envelope, which columns a format shows, and how NaN disappears (JSON has none: it is null). Must not
compute: what it prints is what it was handed. JSON, JSON Lines and YAML carry whole items with their exact values;
CSV carries every column's exact value; table, wide and Markdown carry text for people. The keys of JSON and CSV are
API and only grow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Any, Literal, get_args

from gridctl.errors import UsageError, did_you_mean
from gridctl.render.cell import csv_texts, plain_text, plain_texts, visible
from gridctl.render.table import facts, fitting, table

Format = Literal["table", "wide", "json", "jsonl", "yaml", "csv", "markdown", "name"]
FORMATS: tuple[Format, ...] = get_args(Format)
API_VERSION = "gridctl/v1"

Item = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the item's key, its title, and, where the plain text will not do, how a value reads to people.

    `wide` columns show only in `wide`, CSV and Markdown-free formats that carry everything. `text` is used by table,
    wide and Markdown; CSV and JSON always carry the value itself. `kept` columns are left out on no terminal, however
    narrow; others give way from the right."""

    key: str
    title: str
    wide: bool = False
    align: Literal["left", "right"] = "left"
    text: Callable[[Any], str] | None = None
    kept: bool = False

    def texts(self, items: Sequence[Item]) -> list[str]:
        """The column's cells as text for people."""
        values = self.values(items)
        if self.text is None:
            return plain_texts(values)
        known: dict[object, str] = {None: plain_text(None)}
        text = self.text
        try:
            return [known[value] if value in known else known.setdefault(value, text(value)) for value in values]
        except TypeError:  # values that cannot be keys
            return [plain_text(None) if value is None else text(value) for value in values]

    def values(self, items: Sequence[Item]) -> list[object]:
        """The column's values, None where an item lacks the key."""
        key = self.key
        return [item.get(key) for item in items]


def render_rows(
    items: Sequence[Item],
    columns: Sequence[Column],
    format: str,  # noqa: A002 (the word users know)
    *,
    kind: str,
    name_key: str = "name",
    single: bool = False,
    documents: Sequence[object] | None = None,
    width: int | None = None,
) -> str:
    """`items` as text in `format`, ending in a newline unless there is nothing to print.

    `kind` names the JSON object: `SiteList` for rows, `Run` with `single`, which prints `items[0]` alone: an object in
    JSON and YAML, a fact per line in a table. `documents`, one for each item, replace the items in JSON, JSON Lines
    and YAML, where the thing itself is more than its row. `width` makes table lines fit (terminals only): it clips
    texts, and leaves columns out, which the last line then names; `wide` shows everything whole.

    Raises: UsageError for an unknown format.
    """
    if format not in FORMATS:
        near = did_you_mean(format, FORMATS)
        hint = f"did you mean -o {near}?" if near else f"one of: {', '.join(FORMATS)}"
        raise UsageError(f"unknown output format {format!r}", where="-o/--output", fix=hint)
    if format in ("json", "jsonl", "yaml"):
        whole = list(items if documents is None else documents)
        return _render_documents(whole, format, kind=kind, single=single)
    if format == "csv":
        return _csv(items, columns)
    if format == "name":
        return "".join(f"{visible(plain_text(item.get(name_key)))}\n" for item in items)
    shown = [column for column in columns if format == "wide" or not column.wide]
    if format == "markdown":
        return _markdown(items, shown, single=single)
    if single:
        return facts([column.title for column in shown], [column.texts(items[:1])[0] for column in shown])
    return _table(items, shown, width if format == "table" else None)


def _table(items: Sequence[Item], columns: Sequence[Column], width: int | None) -> str:
    titles = [column.title.upper() for column in columns]
    texts = [column.texts(items) for column in columns]
    aligns = [column.align for column in columns]
    if width is None:
        return table(titles, texts, aligns)
    shown = fitting(titles, texts, aligns, [column.kept for column in columns], width)
    lines = table(
        list(compress(titles, shown)), list(compress(texts, shown)), list(compress(aligns, shown)), width=width
    )
    hidden = [title for title, is_shown in zip(titles, shown, strict=True) if not is_shown]
    return lines + wrapped(f"too narrow for: {', '.join(hidden)}; see -o wide", width) if hidden else lines


def wrapped(text: str, width: int) -> str:
    """`text` in lines of at most `width` characters, broken at spaces, each ended by a newline."""
    import textwrap

    lines = textwrap.wrap(text, max(width, 1), break_long_words=False, break_on_hyphens=False)
    return "".join(f"{line}\n" for line in lines)


def json_text(value: object, *, indent: int = 2) -> str:
    """`value` as JSON, indented, ended by a newline; NaN and infinities are null. `indent=0` is one compact line."""
    import msgspec

    encoded = msgspec.json.encode(value, enc_hook=_plain)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode() + "\n"


def yaml_text(value: object) -> str:
    """`value` as a YAML document in block style, keys in their own order."""
    import msgspec
    import yaml

    plain = msgspec.json.decode(msgspec.json.encode(value, enc_hook=_plain))
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(plain, Dumper=dumper, sort_keys=False, allow_unicode=True, width=120)
    return text


def _render_documents(documents: list[object], format: str, *, kind: str, single: bool) -> str:  # noqa: A002
    if format == "jsonl":
        return "".join(json_text(document, indent=0) for document in documents)
    envelope: dict[str, object] = {"apiVersion": API_VERSION, "kind": kind}
    if not single:
        envelope["items"] = documents
    else:
        import msgspec

        fields = msgspec.to_builtins(documents[0], enc_hook=_plain)
        envelope.update((key, value) for key, value in fields.items() if key not in envelope)
    return json_text(envelope) if format == "json" else yaml_text(envelope)


def _plain(value: object) -> object:
    """NumPy scalars and arrays, and anything else with `tolist`, as plain values."""
    tolist = getattr(value, "tolist", None)
    if tolist is not None:
        return tolist()
    raise NotImplementedError(f"cannot print a {type(value).__name__}")


def _csv(items: Sequence[Item], columns: Sequence[Column]) -> str:
    import csv
    import io

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    writer.writerows(zip(*(csv_texts(column.values(items)) for column in columns), strict=True))
    return out.getvalue()


def _markdown(items: Sequence[Item], columns: Sequence[Column], *, single: bool) -> str:
    from tabulate import tabulate

    cells = [[_markdown_cell(text) for text in column.texts(items)] for column in columns]
    titles = [column.title for column in columns]
    if single:
        rows = [[title, column[0]] for title, column in zip(titles, cells, strict=True)]
        return tabulate(rows, headers=["", ""], tablefmt="pipe", disable_numparse=True) + "\n"
    aligns = [column.align for column in columns]
    rows = [list(row) for row in zip(*cells, strict=True)]
    return (
        tabulate(rows, headers=titles, tablefmt="pipe", colalign=aligns if rows else None, disable_numparse=True) + "\n"
    )


def _markdown_cell(text: str) -> str:
    """Text that cannot end a cell or start markup."""
    return visible(text).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
