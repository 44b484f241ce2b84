"""Document: a report as data, for `-o json` and `-o yaml`: the summary and what only the report computes.

Both tables have commands of their own and are not repeated. Keys are API: they are only added.
"""

from __future__ import annotations

from gridctl.accounts.gate_report import GateReport
from gridctl.render.rows import Item
from gridctl.render.time import utc_text
from gridctl.report.content import Report
from gridctl.report.wording import promise_counts, sentences


def document(report: Report) -> Item:
    """The report as one JSON object."""
    info, total = report.info, report.tokenomics.total
    return {
        "run": info.name,
        "trace": info.trace,
        "policy": info.policy,
        "seed": info.seed,
        "created": utc_text(report.made_ns),
        "digest": info.digest,
        "summary": sentences(report),
        "notes": list(info.notes),
        "usd": total.usd,
        "usd_per_mtok": total.usd_per_mtok,
        "usd_per_mtok_goodput": total.usd_per_mtok_goodput,
        "attainment": total.attainment,
        "promises": promise_counts(report),
        "beside": [other.name for other in report.beside],
        "series": report.series,
        "ttft": report.distributions,
        "cost": [report.stack, *(other.stack for other in report.beside)],
        "flows": report.flows,
        "origins": report.origins,
        "sites": report.sites,
        "faults": [
            {"label": fault.label, "what": fault.what, "start_s": fault.start_s, "end_s": fault.end_s}
            for fault in report.faults
        ],
        "gates": _gates(report.gates),
        "commands": list(report.commands),
    }


def _gates(found: GateReport | None) -> list[dict[str, str]] | None:
    """What each gate came to; `replay gate -o json` has the rest."""
    if found is None:
        return None
    return [{"gate": gate.gate, "outcome": gate.outcome, "message": gate.message} for gate in found.items]
