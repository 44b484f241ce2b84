"""The gate service: gates from the command line, files or the grid; a baseline from a run or a report; the outcome.

Decides where gates and baselines come from and what is refused before a run is even made; what an outcome is, the
accounts decide. Invariant: a gate that is broken on paper is refused by `read_gates`, so no replay is made for it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gridctl.errors import InputError, NotFoundError, raise_all
from gridctl.orchestrator.context import GridHome
from gridctl.orchestrator.drawing import drawn_of
from gridctl.resources import Gate
from gridctl.resources.gate_expression import gate_name, gate_text, parse_gate, problems

if TYPE_CHECKING:
    from gridctl.accounts.gate_report import GateReport, NamedGate
    from gridctl.accounts.gating import Baseline
    from gridctl.accounts.rows import Run
    from gridctl.manifest import Declared

_SPOT = re.compile(r"(.*?):(\d+)(?::\d+)?")
_COMPARES = re.compile(r"[<>≤≥]|[^=]=")
COMMAND_LINE = "--gate"


def read_gates(arguments: Sequence[str], home: GridHome | None) -> list[NamedGate]:
    """The gates of `--gate` options, each an expression or a file; the grid's own where there are no options.

    Raises: InputError carrying every gate that is wrong on paper; when there is no gate at all, that is wrong, too.
    """
    from gridctl.accounts.gate_report import NamedGate

    wrong: list[InputError] = []
    gates: list[NamedGate] = []
    for argument in arguments:
        try:
            if _COMPARES.search(argument) and not os.path.exists(argument):
                spec = parse_gate(argument)
                gates.append(NamedGate(gate_name(gate_text(spec)), spec))
            else:
                gates += _from_file(argument)
        except InputError as error:
            error.where = error.where or COMMAND_LINE
            wrong.append(error)
    if not arguments and home is not None:
        gates = _from_grid(home)
    seen: set[str] = set()
    for gate in gates:
        if gate.name in seen:
            wrong.append(
                InputError(f"gate {gate.name} is given twice", where=gate.file or COMMAND_LINE, fix="remove one")
            )
        seen.add(gate.name)
    raise_all(wrong)
    if not gates:
        raise InputError(
            "there is no gate to hold" if arguments else "the grid has no gates",
            where=COMMAND_LINE,
            fix="give one: --gate 'attainment >= 99%', or --gate FILE",
        )
    return gates


def check_declared_gates(declared: Sequence[Declared]) -> None:
    """Refuse gates that no run could decide. Raises: InputError at their file, line and column, all of them."""
    wrong = []
    for one in declared:
        if isinstance(one.resource, Gate):
            for what, fix in problems(one.resource.spec):
                wrong.append(InputError(f"gate {one.resource.name}: {what}", where=one.at(("spec", "value")), fix=fix))
    raise_all(wrong)


def check_gates(gates: Sequence[NamedGate], baseline: str | None, home: GridHome | None, seeds: int | None) -> None:
    """Refuse, before a replay is made, what could not be decided after it. Raises: InputError, NotFoundError.

    `seeds` is how many replays will be made; None where the run is there already.
    """
    wrong = []
    for gate in gates:
        where = f"{gate.file}:{gate.line}" if gate.file else f"gate {gate.name}"
        if gate.spec.baseline is not None and baseline is None:
            wrong.append(
                InputError(
                    "the gate compares with a baseline, and none was given", where=where, fix="--baseline RUN or FILE"
                )
            )
        if gate.spec.draws is not None and seeds == 1:
            wrong.append(InputError("the gate asks for draws, and there is one replay", where=where, fix="--seeds 20"))
    raise_all(wrong)
    if baseline is not None and home is not None and not _is_file(baseline):
        home.open_runs().document(baseline)


def hold(gates: Sequence[NamedGate], run: Run, baseline: str | None, home: GridHome) -> GateReport:
    """Every gate held against a run. Raises: NotFoundError, InputError when the baseline cannot be read at all."""
    from gridctl.accounts.gate_report import GateReport, overall
    from gridctl.accounts.gating import Subject, hold_gates
    from gridctl.accounts.measures import Measures

    against = None if baseline is None else _baseline(baseline, run, home)
    results = hold_gates(gates, Subject(Measures(run), drawn_of(run, home)), against)
    outcomes = [result.outcome for result in results]
    return GateReport(
        run=run.info.name,
        trace=run.info.trace,
        policy=run.info.policy,
        digest=run.info.digest,
        created_ns=run.info.created_ns,
        baseline=baseline,
        paired=against is not None and against.measures is not None,
        outcome=overall(results),
        passed=outcomes.count("pass"),
        failed=outcomes.count("fail"),
        errors=outcomes.count("error"),
        items=results,
    )


def _from_file(path: str) -> list[NamedGate]:
    from gridctl.accounts.gate_report import NamedGate
    from gridctl.manifest import read_manifests

    declared = read_manifests([path])
    others = [one for one in declared if not isinstance(one.resource, Gate)]
    if others and not Path(path).is_dir():
        raise InputError(
            f"{others[0].resource.kind} {others[0].resource.name} is no gate",
            where=others[0].where,
            fix="move it to another file",
        )
    check_declared_gates(declared)
    gates = []
    for one in declared:
        if isinstance(one.resource, Gate):
            found = _SPOT.fullmatch(one.at(("spec", "metric")))
            file, line = (found[1], int(found[2])) if found else (one.name, None)
            gates.append(NamedGate(one.resource.name, one.resource.spec, file, line))
    return gates


def _from_grid(home: GridHome) -> list[NamedGate]:
    from gridctl.accounts.gate_report import NamedGate

    with home.open_registry() as registry:
        found = [stored.resource for stored in registry.list(Gate)]
    return [NamedGate(gate.name, gate.spec) for gate in found if isinstance(gate, Gate)]


def _is_file(baseline: str) -> bool:
    return baseline.endswith(".json") or os.sep in baseline or Path(baseline).is_file()


def _baseline(name: str, run: Run, home: GridHome) -> Baseline:
    from gridctl.accounts.gating import Baseline
    from gridctl.accounts.measures import Measures
    from gridctl.accounts.pairing import unpaired
    from gridctl.orchestrator.runs import load_run

    if _is_file(name):
        return Baseline(name, _report_reader(name))
    other = load_run(name, home)
    measures = Measures(other)

    def read(metric: str, scope: Mapping[str, str]) -> float | None:
        try:
            return measures.reading(metric, scope).value
        except InputError:
            return None

    paired = not unpaired(run, other)
    return Baseline(name, read, measures if paired else None, drawn_of(other, home))


def _report_reader(path: str) -> Callable[[str, Mapping[str, str]], float | None]:
    """Numbers from a file that `replay gate -o json` or `tokenomics -o json` wrote.

    Raises: NotFoundError, InputError for anything else."""
    document = _document(path)
    if document.get("kind") == "GateReport":
        items = document.get("items")
        known = {
            (str(item.get("metric")), _scope_key(item["scope"])): _number(item.get("actual"))
            for item in (items if isinstance(items, list) else [])
            if isinstance(item, dict) and isinstance(item.get("scope"), dict)
        }
        return lambda metric, scope: known.get((metric, _scope_key(scope)))
    rows = [document.get("total")]
    for key in ("workloads", "tiers"):
        table = document.get(key)
        rows += table if isinstance(table, list) else []

    def read(metric: str, scope: Mapping[str, str]) -> float | None:
        name, _, statistic = metric.partition(".")
        field = f"{name.removesuffix('_ms')}_{statistic}_ms" if statistic else metric
        wanted = {key: scope.get(key, "*") for key in ("workload", "tier", "variant")}
        if set(scope) - set(wanted):
            return None
        chosen = [row for row in rows if isinstance(row, dict) and all(row.get(k) == v for k, v in wanted.items())]
        return _number(chosen[0].get(field)) if chosen else None

    return read


def _document(path: str) -> dict[str, Any]:
    kinds = "gridctl replay gate RUN -o json > FILE, or gridctl tokenomics RUN -o json > FILE, makes one"
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"), parse_constant=_refused)
    except FileNotFoundError:
        raise NotFoundError("there is no such baseline file", where=path, fix=kinds) from None
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise InputError(f"the baseline cannot be read: {reason}", where=path, fix=kinds) from None
    if not isinstance(document, dict) or document.get("kind") not in ("GateReport", "Tokenomics"):
        raise InputError("the baseline is no report of gridctl", where=path, fix=kinds)
    return document


def _refused(word: str) -> float:
    raise ValueError(f"{word} is no number")


def _scope_key(scope: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((str(key), str(value)) for key, value in scope.items()))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
