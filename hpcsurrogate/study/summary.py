"""What a search has found: the content of tune.json, and the table of it for the terminal."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from hpcsurrogate.core.provenance import provenance
from hpcsurrogate.study.objectives import Objective, Outcome
from hpcsurrogate.study.search import TrialRecord
from hpcsurrogate.study.tune_keys import overrides

Summary = dict[str, Any]


def summarise(
    records: Sequence[TrialRecord],
    outcomes: Mapping[int, Outcome],
    front: Sequence[int],
    objectives: Sequence[Objective],
) -> Summary:
    """The content of tune.json.

    Parameters
    ----------
    records : sequence of TrialRecord
    outcomes : mapping               number -> Outcome of the finished trials
    front : sequence of int          numbers of the Pareto front
    objectives : sequence of Objective

    Returns
    -------
    dict    objectives; keys that are searched over; trials (number, state, values, objectives, reason); front, by the
            first objective from the best on; best (the first of the front, None without a complete trial); overrides
            of the best; provenance
    """
    by_number = {record.number: record for record in records}
    sign = 1 if objectives[0].direction == "minimize" else -1
    ranked = sorted(front, key=lambda number: sign * by_number[number].objectives[0])
    best = ranked[0] if ranked else None
    return {
        "objectives": [asdict(objective) for objective in objectives],
        # A trial that was killed while it chose its values has only some of them.
        "keys": list(max((record.values for record in records), key=len, default={})),
        "trials": [
            {
                "number": record.number,
                "state": record.state,
                "values": record.values,
                "objectives": list(record.objectives),
                "reason": outcomes[record.number].reason if record.number in outcomes else "",
            }
            for record in records
        ],
        "front": ranked,
        "best": best,
        "overrides": None if best is None else overrides(by_number[best].values),
        "provenance": provenance(),
    }


def table(summary: Summary, command: str) -> list[str]:
    """Lines for the terminal: every trial, the front marked with a star, and the command that trains the best.

    Parameters
    ----------
    summary : dict     content of tune.json
    command : str      to which the overrides of the best trial are added
    """
    labels = [Objective(**objective).label for objective in summary["objectives"]]
    keys = summary["keys"]
    rows = [["", "trial", "state", *labels, *keys, ""]]
    for trial in summary["trials"]:
        star = "*" if trial["number"] in summary["front"] else ""
        numbers = [f"{value:.4g}" for value in trial["objectives"]] or ["-"] * len(labels)
        values = [_show(trial["values"].get(key, "-")) for key in keys]
        rows.append([star, str(trial["number"]), trial["state"], *numbers, *values, trial["reason"]])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    states = [trial["state"] for trial in summary["trials"]]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    lines.append(f"{len(states)} trials: {counts}")
    if "running" in states:
        lines.append("other processes still work on the running ones; the last to end writes the whole table")
    if summary["best"] is None:
        return [*lines, "no trial is complete; the reasons stand in the table"]
    if len(labels) > 1:
        lines.append(f"Pareto front (*): no other trial is better in both {labels[0]} and {labels[1]}")
    to_paste = " ".join([command, *map(shlex.quote, summary["overrides"])])
    return [*lines, f"best by {labels[0]}, trial {summary['best']}:", f"  {to_paste}"]


def _show(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
