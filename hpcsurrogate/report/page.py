"""The one self-contained HTML page: verdict first, figures inside the file, nothing fetched from anywhere."""

import base64
import json
from collections.abc import Sequence
from html import escape
from typing import Any

from hpcsurrogate.core.config import Experiment
from hpcsurrogate.core.provenance import provenance
from hpcsurrogate.core.yaml_loader import AnyExperiment, dump_experiment
from hpcsurrogate.report.results import Results
from hpcsurrogate.report.tables import apriori_table, contender_table, unseen_table

CSS = """
:root { color-scheme: light; }
body { margin: 0; background: #f4f4f2; color: #1c1c1c; font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.6rem 2rem 4rem; background: #fff; }
h1 { font-size: 1.08rem; line-height: 1.5; font-weight: 500; margin: 0 0 1.2rem; padding: 1rem 1.2rem;
     border-left: 6px solid #8a8a8a; background: #f6f6f4; }
h1.helped { border-color: #2b7a3d; } h1.not { border-color: #b3541e; }
h2 { font-size: 1.12rem; margin: 2.4rem 0 .6rem; } p { max-width: 48rem; margin: .5rem 0; }
.meta { color: #666; font-size: .88rem; }
figure { margin: 1rem 0; } figure img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption { color: #444; font-size: .88rem; max-width: 48rem; margin: .4rem auto 0; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .6rem; text-align: right; border-bottom: 1px solid #e6e6e6; vertical-align: top; }
th:first-child, td:nth-child(2) { text-align: left; } tbody th { font-weight: 400; min-width: 9rem; }
td { white-space: nowrap; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; } small { color: #777; white-space: nowrap; }
tr.best th, tr.best td { font-weight: 700; } tr.learned th, tr.learned td { background: #fdecea; }
tr.part th { text-align: left; color: #666; padding-top: .9rem; } .bad { color: #b3261e; }
details { margin: .6rem 0; } summary { cursor: pointer; }
pre { font-size: .8rem; background: #f6f6f4; padding: .8rem; overflow-x: auto; }
"""

CAPTIONS = {
    "cost": (
        "What accuracy costs",
        "(a) Time to decorrelation from filtered DNS against cost, up and left is better; (b) mean relative error of "
        "the velocity, down and left is better. Bars: 95 % over starts. Thin lines: the same on finer grids, grey for "
        "the host without closure. Dashed: the front of all that needs no learning; a closure pays beyond it.",
    ),
    "vorticity": (
        "Vorticity side by side",
        "The first start. All fields on the coarse grid, one colour scale; grey cells are not finite. In three "
        "dimensions the magnitude in the middle plane of z.",
    ),
    "distributions": (
        "Distributions of vorticity and strain",
        "Probability density over the last quarter of the runs, each over the root mean square of its own filtered "
        "DNS. (a) Vorticity, in three dimensions all its components; (b) strain rate.",
    ),
    "spectra": (
        "Energy spectra",
        "(a) Kinetic energy spectrum over the last quarter of the runs, up to the coarse grid's highest mode. "
        "(b) Ratio to filtered DNS.",
    ),
    "series": (
        "Course of the runs",
        "Means over starts. (a) Correlation of vorticity with filtered DNS, on the modes of the coarse grid. "
        "(b), (c) Kinetic energy and enstrophy over those of filtered DNS on the contender's own grid.",
    ),
    "training": (
        "Training",
        "Loss over steps, with the validation loss over all ranks. Dotted lines: the unrolled window grows.",
    ),
}


def render_page(experiment: Experiment, results: Results, images: dict[str, bytes]) -> str:
    """Return the whole page.

    Parameters
    ----------
    experiment : Experiment
    results : Results
    images : dict    PNG bytes by the names of `CAPTIONS`

    Notes
    -----
    Refers to nothing outside itself, and the verdict is its first line (tests/unit/report/test_page.py).
    """
    starts = results.coupling["num_starts"]
    lengthened = experiment.couple.lengthen_steps
    parts = [
        "<h2>Contenders</h2>",
        "<p>Bold: the best classical contender in the host. Red: the learned closure. Times are means over starts with "
        "their 95 % interval; costs are medians at batch 1 on one thread; errors are those of the last quarter."
        + (" Each run takes the longest time step that costs it no accuracy.</p>" if lengthened else "</p>"),
        contender_table(results),
        *(
            figure(*CAPTIONS[name], images[name])
            for name in ("cost", "vorticity", "series", "spectra", "distributions")
        ),
        *_unseen(results),
        "<h2>A-priori scores</h2>",
        "<p>On single snapshots of the test data, forces projected on divergence-free fields; error is the root mean "
        "square of the difference over that of the exact field. A good score here promises no good run.</p>",
        apriori_table(results),
        figure(*CAPTIONS["training"], images["training"]),
        "<h2>Where this comes from</h2>",
        _details("Reference and rules of the comparison", json.dumps(_rules(results), indent=2, ensure_ascii=False)),
    ]
    return whole_page(experiment, results.coupling, f"{starts} start{'s' if starts != 1 else ''} from test data", parts)


def whole_page(experiment: AnyExperiment, coupling: dict[str, Any], basis: str, parts: Sequence[str]) -> str:
    """Return a page: the verdict, what it rests on, the parts, and where they come from.

    Parameters
    ----------
    experiment : of any kind
    coupling : dict            content of couple.json: `verdict`, `helped`
    basis : str                what was compared, a few words
    parts : sequence of str    HTML
    """
    made = provenance()
    outcome = "helped" if coupling["helped"] else "not"
    parts = [
        f'<h1 class="{outcome}">{escape(coupling["verdict"])}</h1>',
        f'<p class="meta">Experiment {escape(experiment.name)} · {escape(basis)} · '
        f"{escape(str(made['time']))} · hpcsurrogate {escape(str(made['version']))}</p>",
        *parts,
        _details("Provenance", json.dumps(made, indent=2, ensure_ascii=False)),
        _details("Configuration, as used", dump_experiment(experiment)),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(experiment.name)}: report</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(parts)
        + "\n</main></body></html>\n"
    )


def _unseen(results: Results) -> list[str]:
    if not results.unseen:
        return []
    return [
        "<h2>Flows that training never saw</h2>",
        "<p>Similarity with filtered DNS, the mean over rollout, spectrum and distributions of 1 minus the error over "
        "the bare host's: 1 is the DNS itself, 0 the bare host. Below it the time to decorrelation. Both with their "
        "95 % interval; nothing was tuned or trained again.</p>",
        unseen_table(results),
    ]


def _rules(results: Results) -> dict[str, Any]:
    names = ("reference", "correlation_threshold", "num_starts", "best_classical", "learned", "equivalent")
    return {name: results.coupling.get(name) for name in names}


def figure(title: str, caption: str, image: bytes) -> str:
    """Return a figure with its heading, the PNG inside."""
    data = base64.b64encode(image).decode("ascii")
    return (
        f"<h2>{escape(title)}</h2><figure>"
        f'<img alt="{escape(title)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def _details(title: str, text: str) -> str:
    return f"<details><summary>{escape(title)}</summary><pre>{escape(text)}</pre></details>"
