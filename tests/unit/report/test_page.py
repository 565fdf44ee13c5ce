"""The page: verdict first, everything inside it, every contender in it, nothing taken for markup."""

import re
from html.parser import HTMLParser

import pytest

from hpcsurrogate.report.page import CAPTIONS, render_page
from hpcsurrogate.report.results import read_results
from hpcsurrogate.report.tables import APRIORI_COLUMNS, apriori_table, contender_table, number, unseen_table

IMAGES = dict.fromkeys(CAPTIONS, b"\x89PNG not drawn here")


class Body(HTMLParser):
    """Collects the texts of the body, the rows of tables, and every reference to something outside."""

    VOID = {"meta", "img", "br"}

    def __init__(self, page: str):
        super().__init__()
        self.open, self.texts, self.rows, self.references = [], [], {}, []
        self.row, self.row_class = None, None
        self.feed(page)
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.references += [attributes[name] for name in ("src", "href") if name in attributes]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.row, self.row_class = [], attributes.get("class", "")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "tr":
            self.rows[self.row[0]] = (self.row_class, self.row[1:])

    def handle_data(self, text):
        if "body" in self.open and text.strip():
            self.texts.append(text.strip())
        if self.open and self.open[-1] in ("td", "th"):
            self.row.append(text)


@pytest.fixture
def results(paths):
    return read_results(paths)


def test_verdict_is_the_first_line(experiment, results):
    assert Body(render_page(experiment, results, IMAGES)).texts[0] == results.coupling["verdict"]


def test_nothing_is_fetched_from_outside(experiment, results):
    page = render_page(experiment, results, IMAGES)
    references = Body(page).references
    assert len(references) == len(CAPTIONS)
    assert all(reference.startswith("data:image/png;base64,") for reference in references)
    assert not re.search(r"https?://|@import|url\(|<script", page)


def test_every_contender_has_its_row(results):
    rows = Body(contender_table(results)).rows
    for contender in results.contenders:
        assert contender["name"] in rows
    assert rows["order 6 + hyperviscosity"][0] == "best"
    assert rows["learned"][0] == "learned"
    assert "3.31" in " ".join(rows["learned"][1]) and "362" in rows["learned"][1]
    assert [kind for kind, _ in rows.values()].count("best") == 1


def test_rows_are_ranked(results):
    names = list(Body(contender_table(results)).rows)[1:]
    assert names[:3] == ["learned", "order 6 + hyperviscosity", "order 4 + hyperviscosity"]
    rungs = ["no closure, 96 x 96", "no closure, 128 x 128", "no closure, 256 x 256"]
    assert [name for name in names if "no closure," in name] == rungs
    assert names[-1] == "order 6 + hyperviscosity, 96 x 96"


def test_blown_up_run_is_called_so(results):
    table = contender_table(results)
    row = table[table.index("gradient, order 2") :].split("</tr>")[0]
    assert "blew up" in row and "–" in row and "&lt; 32" in row


def test_lower_bound_is_marked(results):
    results.contenders[results.learned]["reached_end"] = True
    assert "≥ 3.31" in contender_table(results)


def test_apriori_table_marks_the_learned_closure(results):
    rows = Body(apriori_table(results)).rows
    assert rows["learned"][0] == "learned" and "0.850" in rows["learned"][1]
    backscatter = [title for _, title in APRIORI_COLUMNS].index("backscatter")
    assert rows["filtered DNS"][1][1 + backscatter] == "0.430"
    error = [title for _, title in APRIORI_COLUMNS].index("stress: error")
    assert rows["best of all pointwise closures (estimated)"][1][1 + error] == "0.610"


def test_unseen_cases_are_a_table_of_similarity(experiment, results):
    lines = [dict(line) for line in results.contenders if line["ladder_of"] is None]
    results.unseen.update({"decaying": {"contenders": lines}, "low <nu>": {"contenders": lines[:1]}})
    rows = Body(unseen_table(results)).rows
    assert "0.828 (0.662 to 1.10)" in rows["learned"][1][0:2] and rows["learned"][1][1] == "–"
    assert unseen_table(results).count("blew up") == 1
    page = render_page(experiment, results, IMAGES)
    assert "never saw" in page and "low &lt;nu&gt;" in page


def test_configuration_and_provenance_are_there(experiment, results):
    text = " ".join(Body(render_page(experiment, results, IMAGES)).texts)
    assert "quadratic_stencil" in text and "git_commit" in text and "starts from test data" in text


def test_page_without_learned_closure(experiment, results):
    results.coupling["learned"] = None
    results.coupling["equivalent"] = None
    results.contenders[6]["role"] = "classical"
    assert "learned" in contender_table(results)  # still a row, by its name
    assert 'class="learned"' not in contender_table(results)
    assert Body(render_page(experiment, results, IMAGES)).texts[0] == results.coupling["verdict"]


@pytest.mark.parametrize(
    "value, text",
    [(None, "–"), (0.0, "0.00"), (0.31, "0.310"), (12.345, "12.3"), (362.4, "362"), (1426.3, "1,426"),
     (-0.05, "-0.0500"), (1e-6, "1.00e-06")],
)  # fmt: skip
def test_numbers(value, text):
    assert number(value) == text
