"""The tables of the report as HTML."""

from collections.abc import Sequence
from html import escape
from typing import Any

from hpcsurrogate.report.results import Results, on_a_ladder

MISSING = "–"

APRIORI_COLUMNS = (
    ("correlation_force", "force: correlation"),
    ("relative_error_force", "force: error"),
    ("correlation_sgs_force", "−div τ: correlation"),
    ("relative_error_sgs_force", "−div τ: error"),
    ("correlation_stress", "stress: correlation"),
    ("relative_error_stress", "stress: error"),
    ("correlation_transfer", "energy transfer: correlation"),
    ("relative_error_transfer", "energy transfer: error"),
    ("backscatter_fraction", "backscatter"),
    ("correlation_stress_transfer", "τ:S: correlation"),
    ("relative_error_stress_transfer", "τ:S: error"),
    ("stress_backscatter_fraction", "backscatter of τ:S"),
    ("equivariance_error", "asymmetry"),
)


def contender_table(results: Results) -> str:
    """Return the comparison, longest agreement first, then the bare host on its ladder of grids."""
    threshold = results.coupling["correlation_threshold"]
    header = (
        "contender", "host", "constant", f"time to correlation {threshold:g} [s]", "as good as bare grid",
        "faster than the cheapest classical way", "step [ms]", "step / bare", "per time unit [ms]", "rollout error",
        "similarity", "spectrum error", "energy error", "enstrophy error", "dissipation error", "stable",
    )  # fmt: skip
    entered = [i for i, contender in enumerate(results.contenders) if not on_a_ladder(contender)]
    ranked = sorted(entered, key=lambda i: -results.contenders[i]["decorrelation_time"])
    rows = [_contender_row(results, index) for index in ranked]
    for base in sorted(ranked, key=lambda index: index != results.bare):
        rungs = [index for index in results.ladder(base) if index != base]
        if rungs:
            what = "the same host without closure" if base == results.bare else escape(results.contenders[base]["name"])
            rows.append(f'<tr class="part"><th colspan="{len(header)}">{what} on finer grids</th></tr>')
            rows += [_contender_row(results, index) for index in rungs]
    return table(header, rows)


def unseen_table(results: Results) -> str:
    """Return similarity and time to decorrelation of every contender on every unseen case."""
    names = list(dict.fromkeys(line["name"] for case in results.unseen.values() for line in case["contenders"]))
    rows = []
    for name in names:
        cells = []
        for case in results.unseen.values():
            line = next((line for line in case["contenders"] if line["name"] == name), None)
            cells.append(MISSING if line is None else _unseen_cell(line))
        kind = "learned" if name == results.coupling["learned"] else ""
        kind = "best" if name == results.coupling["best_classical"] else kind
        rows.append(row(name, cells, kind))
    return table(("contender", *results.unseen), rows)


def _unseen_cell(line: dict[str, Any]) -> str:
    if not line["stable"]:
        return '<span class="bad">blew up</span>'
    bound = "≥ " if line["reached_end"] else ""
    low, high = line["decorrelation_interval"]
    time = f"{bound}{number(line['decorrelation_time'])} s ({number(low)} to {number(high)})"
    return f"{with_interval(line['similarity'], line['similarity_interval'])}<br><small>{time}</small>"


def apriori_table(results: Results) -> str:
    """Return the a-priori scores on the test split; the exact field's own backscatter fraction closes the table."""
    header = ("closure", "constant", *(title for _, title in APRIORI_COLUMNS))
    rows = []
    for closure in results.evaluation["closures"]:
        cells = [number(closure.get("constant"))] + [number(closure.get(key)) for key, _ in APRIORI_COLUMNS]
        kind = "learned" if closure["name"] == "learned" else ""
        rows.append(row(closure["name"], cells, kind))
    floor = results.evaluation.get("one_point_floor")
    if floor is not None:
        cells = [MISSING] + [number(floor.get(key)) for key, _ in APRIORI_COLUMNS]
        rows.append(row("best of all pointwise closures (estimated)", cells, ""))
    exact = results.evaluation.get("dns_backscatter_fraction")
    if exact is not None:
        of_dns = {"backscatter_fraction": exact}
        of_dns["stress_backscatter_fraction"] = results.evaluation.get("dns_stress_backscatter_fraction")
        rows.append(row("filtered DNS", [MISSING] + [number(of_dns.get(key)) for key, _ in APRIORI_COLUMNS], ""))
    return table(header, rows)


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits, a dash for None."""
    if value is None:
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:#.{digits}g}".rstrip(".")


def with_interval(value: float | None, interval: Sequence[float] | None) -> str:
    """Return a number and its interval in brackets."""
    return number(value) if interval is None else f"{number(value)} ({number(interval[0])} to {number(interval[1])})"


def host_text(host: dict[str, Any]) -> str:
    """Return a host in a few words: kind, order or dealiasing."""
    words = [host["kind"].replace("_", " ")]
    if host.get("order") is not None:
        words.append(f"order {host['order']}")
    if host.get("advection") == "upwind":
        words.append("upwind")
    if host.get("dealias") is not None:
        words.append(host["dealias"].replace("_", " "))
    if host.get("hyperviscosity"):
        words.append("hyperviscosity")
    return ", ".join(words)


def _contender_row(results: Results, index: int) -> str:
    contender = results.contenders[index]
    low, high = contender["decorrelation_interval"]
    bound = "≥ " if contender["reached_end"] else ""
    time = f"{bound}{number(contender['decorrelation_time'])}<br><small>({number(low)} to {number(high)})</small>"
    effective = contender["effective_grid"]
    size = " × ".join(str(n) for n in contender["grid"])
    error, similar = (
        with_interval(contender[name], contender[f"{name}_interval"]).replace(" (", "<br><small>(") + "</small>"
        if contender[name] is not None
        else MISSING
        for name in ("rollout_error", "similarity")
    )
    cells = [
        f"{escape(host_text(contender['host']))}<br><small>{size}, dt {contender['host']['time_step']:.4g} s</small>",
        number(contender["constant"]),
        time,
        escape(contender.get("effective_grid_bound") or MISSING) if effective is None else f"{effective:.0f}",
        number(contender["speed_up_over_classical"]),
        number(contender["cost_ms_per_step"]),
        number(contender["cost_ratio_step"]),
        number(contender["cost_ms_per_time_unit"]),
        error,
        similar,
        number(contender["spectrum_log_error"]),
        number(contender["energy_error"]),
        number(contender["enstrophy_error"]),
        number(contender["dissipation_error"]),
        _stability(contender),
    ]
    kind = "learned" if index == results.learned else "best" if index == results.best_classical else ""
    return row(contender["name"], cells, kind)


def _stability(contender: dict[str, Any]) -> str:
    endurance = contender["endurance"]
    if not contender["stable"]:
        return '<span class="bad">blew up</span>'
    if endurance is None:
        return "yes"
    if endurance["blow_up_time"] is None:
        return f"yes, {number(endurance['duration'])} s"
    return f'<span class="bad">blew up at {number(endurance["blow_up_time"])} s</span>'


def row(name: str, cells: Sequence[str], kind: str) -> str:
    """Return one row; the cells are HTML already, the name is not."""
    attribute = f' class="{kind}"' if kind else ""
    return (
        f'<tr{attribute}><th scope="row">{escape(name)}</th>' + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>"
    )


def table(header: Sequence[str], rows: Sequence[str]) -> str:
    """Return a table; the titles are plain text, the rows those of `row`."""
    titles = "".join(f'<th scope="col">{escape(title)}</th>' for title in header)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
