"""The report, as a parser reads it and, slowly, as a browser shows it."""

import collections
import copy
import html.parser
import os
import pathlib
import re
import subprocess
import sys

import evaluations
import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from l2d_jax.table import figures, wording
from l2d_jax.table.report import render
from l2d_jax.table.results import COLUMNS

VOID = {"meta", "link"}
ELEMENTS = {
    *("html", "head", "meta", "link", "title", "style", "body"),
    *("header", "main", "footer", "section", "h1", "h2", "p", "ul", "li", "div"),
    *("strong", "bdi", "small", "span", "details", "summary"),
    *("table", "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption"),
    *("svg", "defs", "g", "path", "use", "text", "rect", "clippath", "tspan"),
    "pattern",
}
HEADINGS = [
    "Who is right how often",
    "What more or less deferring would do",
    "Who gets what",
    "Can the predicted chances be believed?",
    "Is it as good for every group?",
    "Which cases are deferred",
    "Notes on the data",
    "How this was made",
]


class Element:
    def __init__(self, tag, attributes, parent):
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.content = []

    def __iter__(self):
        yield self
        for part in self.content:
            if isinstance(part, Element):
                yield from part

    def all(self, tag, **attributes):
        return [
            element
            for element in self
            if element.tag == tag and attributes.items() <= element.attributes.items()
        ]

    def one(self, tag, **attributes):
        (element,) = self.all(tag, **attributes)
        return element

    @property
    def text(self):
        return "".join(
            part if isinstance(part, str) else part.text for part in self.content
        )


class Parser(html.parser.HTMLParser):
    """A tree, of pages whose every element is closed in its turn."""

    def __init__(self):
        super().__init__()
        self.root = self.here = Element("", {}, None)

    def handle_starttag(self, tag, attributes):
        assert len(dict(attributes)) == len(attributes), tag
        element = Element(tag, dict(attributes), self.here)
        self.here.content.append(element)
        if tag not in VOID:
            self.here = element

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.here = self.here.parent

    def handle_endtag(self, tag):
        assert tag == self.here.tag, f"</{tag}> in <{self.here.tag}>"
        self.here = self.here.parent

    def handle_data(self, data):
        self.here.content.append(data)


def parse(text):
    parser = Parser()
    parser.feed(text)
    parser.close()
    assert parser.here is parser.root
    return parser.root


def rows_of(table):
    return [
        [cell.text.replace("\xa0", " ") for cell in row.content]
        for row in table.one("tbody").all("tr")
    ]


def table_of(page, key):
    region = page.one("div", **{"aria-labelledby": key})
    return region.one("table")


def words(element):
    """Its text, with single spaces."""
    return " ".join(element.text.replace("\xa0", " ").split())


@pytest.fixture(scope="module")
def texts():
    return {name: render(make()) for name, make in evaluations.EXAMPLES.items()}


@pytest.fixture(scope="module")
def pages(texts):
    return {name: parse(text) for name, text in texts.items()}


@pytest.fixture(params=evaluations.EXAMPLES)
def example(request):
    return request.param


def test_it_asks_for_nothing_and_runs_nothing(pages, texts, example):
    page = pages[example]
    policy = page.one("meta", **{"http-equiv": "Content-Security-Policy"})
    assert policy.attributes["content"] == (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    )
    assert {element.tag for element in page} - {""} <= ELEMENTS
    for element in page:
        for name, value in element.attributes.items():
            assert not name.startswith("on"), name
            assert name != "src"
            if name == "href":
                assert value.startswith(("#", "data:")), value
            if name not in ("aria-label",):
                assert "//" not in value and "javascript:" not in value, (name, value)
            for place in re.findall(r"url\((.*?)\)", value):
                assert name == "aria-label" or place.startswith("#")
    style = page.one("style").text
    assert "url(" not in style and "@import" not in style
    texts[example].encode("utf-8")


def test_it_has_landmarks_and_headings(pages, example):
    page = pages[example]
    assert page.one("html").attributes["lang"] == "en"
    assert page.one("meta", charset="utf-8")
    assert page.one("meta", name="viewport")
    assert [e.tag for e in page.one("body").content if isinstance(e, Element)] == [
        *("header", "main", "footer")
    ]
    assert len(page.one("header").all("h1")) == 1 == len(page.all("h1"))
    expected = list(HEADINGS)
    if example == "many_people":
        expected.insert(3, "Whom to consult")
    assert [words(heading) for heading in page.one("main").all("h2")] == expected


def test_identifiers_are_distinct_and_lead_somewhere(pages, example):
    page = pages[example]
    counts = collections.Counter(
        element.attributes["id"] for element in page if "id" in element.attributes
    )
    assert set(counts.values()) == {1}
    for element in page:
        for name, value in element.attributes.items():
            if name in ("aria-labelledby", "aria-describedby"):
                assert value in counts
            if name == "href" and value.startswith("#"):
                assert value[1:] in counts
            if name != "aria-label":
                assert set(re.findall(r"url\(#(.*?)\)", value)) <= set(counts)


def test_tables_have_captions_and_heads_and_scroll_by_themselves(pages, example):
    page = pages[example]
    for table in page.all("table"):
        region = table.parent
        caption = table.one("caption")
        assert caption.text.strip()
        assert region.attributes["role"] == "region"
        assert region.attributes["tabindex"] == "0"
        assert region.attributes["aria-labelledby"] == caption.attributes["id"]
        head = table.one("thead").all("th")
        assert all(cell.attributes["scope"] == "col" for cell in head)
        for row in table.one("tbody").all("tr"):
            assert [cell.tag for cell in row.content] == ["th"] + ["td"] * (
                len(head) - 1
            )
            assert row.content[0].attributes["scope"] == "row"


@pytest.mark.parametrize("name", ["binary", "many_people", "hostile"])
def test_figures_say_what_is_seen(pages, name):
    drawings = pages[name].all("svg")
    assert len(drawings) == 3
    for drawing in drawings:
        assert drawing.attributes["role"] == "img"
        assert len(re.findall(r"\d\d(\.\d)? %", drawing.attributes["aria-label"])) > 5
        assert not drawing.all("title") and not drawing.all("metadata")
        assert not drawing.all("style")


def test_a_figure_in_words():
    evaluation = evaluations.binary()
    curve = pd.DataFrame(
        [
            ("ours", 0.0, 0.8, 0.75, 0.85),
            ("ours", 0.5, 0.9, 0.85, 0.95),
            ("ours", 1.0, 0.7, 0.65, 0.75),
        ],
        columns=COLUMNS["curve"],
    )
    page = parse(render(evaluation._replace(curve=curve)))
    assert page.all("svg")[0].attributes["aria-label"] == (
        "Accuracy against the share of cases deferred. ours: 80.0 % (75.0 to 85.0) "
        "with 0.0 % deferred, 90.0 % (85.0 to 95.0) with 50.0 % deferred, 70.0 % (65.0 "
        "to 75.0) with 100.0 % deferred; the best single party, the model: 81.2 %; the "
        "chosen policy: 83.4 % with 20.0 % deferred."
    )


def test_names_are_text_whatever_they_say(pages):
    page = pages["hostile"]
    for name in evaluations.HOSTILE[:4]:
        assert any(name == bdi.text for bdi in page.all("bdi")), name
        assert any(name == item.text for item in page.all("li")), name
    assert words(page.one("h1")).startswith("<script>alert(1)</script>")
    drawn = [text.text for text in page.all("text")]
    assert '"><img src=x on…' in drawn and "_hidden" in drawn and "טליה כהן" in drawn
    # The first methods' names, in the figure's legend, which shows no formula.
    assert "<script>alert(1)</script>" in drawn and "&amp; ' $x^2$ %s {0}" in drawn
    assert not set(page.text) & set("\x00\x1b\u202e\ud800")
    longest = max(len(bdi.text) for bdi in page.all("bdi"))
    assert longest == 80


def test_equal_evaluations_give_equal_bytes(texts):
    before = copy.deepcopy(evaluations.binary())
    evaluation = evaluations.binary()
    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path", "axes.grid": False}):
        assert render(evaluation) == texts["binary"]
        assert mpl.rcParams["font.size"] == 30
    for table in COLUMNS:
        pd.testing.assert_frame_equal(
            getattr(evaluation, table), getattr(before, table)
        )


@pytest.mark.long
def test_another_process_gives_equal_bytes(texts):
    code = (
        "import sys, evaluations; from l2d_jax.table.report import render; "
        "sys.stdout.buffer.write(render(evaluations.binary()).encode())"
    )
    here = pathlib.Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ
        | {"PYTHONHASHSEED": "7", "PYTHONPATH": f"{here}:{here.parents[1]}"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.decode() == texts["binary"]
    assert not done.stderr


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ["hostile", "bare"])
def test_nothing_is_warned_of(name, texts):
    assert render(evaluations.EXAMPLES[name]()) == texts[name]


def test_rows_are_told_apart_by_place_not_by_index(texts):
    evaluation = evaluations.binary()
    same = {
        table: getattr(evaluation, table).set_axis(
            np.zeros(len(getattr(evaluation, table)), int)
        )
        for table in COLUMNS
    }
    assert render(evaluation._replace(**same)) == texts["binary"]


def test_the_chosen_policy_is_compared_with_the_best_single_party(pages):
    page = pages["binary"]
    chosen, best, *others = rows_of(table_of(page, "parties-table"))
    row = evaluations.binary().parties.query("chosen").iloc[0]
    low, high = 100 * row["accuracy_low"], 100 * row["accuracy_high"]
    assert chosen[:6] == [
        "most likely right chosenmodel and people",
        f"83.4 %{low:.1f} to {high:.1f}",
        "+2.21.5 to 2.9",
        "< 0.001",
        "20.0 %",
        "0.20",
    ]
    assert best[0] == "model best single partythe model"
    assert best[2:4] == ["reference", wording.UNKNOWN]
    assert [other[0].split()[0] for other in others] == [
        *("least", "majoritypeople", "r1a", "r2a", "r3a", "r4a")
    ]
    assert words(page.one("p", **{"class": "headline"})) == (
        "Deferring 20 % of cases to people gains 2.2 points (1.5 to 2.9) over the "
        "model alone."
    )


def test_measures_of_two_classes_are_left_out_with_more(pages):
    def heads(name):
        table = table_of(pages[name], "parties-table")
        return [words(cell) for cell in table.one("thead").all("th")]

    assert {"Sensitivity", "Specificity"} <= set(heads("binary"))
    assert not {"Sensitivity", "Specificity"} & set(heads("many_people"))
    assert "so they are left out" in words(pages["many_people"].one("main"))


def test_many_people_are_shown_when_asked_for(pages):
    page = pages["many_people"]
    work = evaluations.many_people().workload
    busiest = work.sort_values("asked", ascending=False)["person"][:15]
    shown = rows_of(table_of(page, "workload-table"))
    assert [row[0] for row in shown] == list(busiest)
    assert len(rows_of(table_of(page, "workload-all"))) == 170
    persons = {
        row[0].removesuffix("a person")
        for row in rows_of(table_of(page, "parties-table"))
        if row[0].endswith("a person")
    }
    assert persons == set(busiest)
    assert len(rows_of(table_of(page, "parties-all"))) == 174
    inside = {d.one("summary").text for d in page.all("details")}
    assert {"All 170 people", "All 174 parties"} <= inside


def test_few_people_are_all_shown(pages):
    page = pages["binary"]
    assert [words(d.one("summary")) for d in page.all("details")] == [
        "The figure in numbers"
    ]


@pytest.mark.parametrize(("cases", "warned"), [(29, True), (30, False)])
def test_small_groups_are_warned_of(cases, warned):
    evaluation = evaluations.binary()
    groups = evaluation.groups.copy()
    groups.loc[groups["group"] == "islands", "cases"] = cases
    page = parse(render(evaluation._replace(groups=groups)))
    section = page.one("section", **{"aria-labelledby": "groups"})
    assert ("Too few cases to judge (under 30): islands." in words(section)) == warned
    (count,) = {
        row[-1]
        for row in rows_of(table_of(page, "groups-table"))
        if row[0] == "islands"
    }
    assert count == f"{cases}" + "fewer than 30" * warned


def test_what_is_empty_says_why(pages):
    page = pages["bare"]
    sections = [words(section) for section in page.all("section")]
    for said, reason in zip(
        sections[1:],
        [
            "accuracy is known at no share",
            "no people are known",
            "there are no predicted chances",
            "no column of groups was given",
            "no feature could be compared",
            "Nothing stood out",
            "Nothing was handed down",
        ],
        strict=True,
    ):
        assert reason in said
    assert not page.all("svg")
    assert "defers no case" in words(pages["never_defers"].one("main"))
    assert "asks nobody" in words(pages["never_defers"].one("main"))
    assert len(pages["never_defers"].all("svg")) == 2


def test_a_gain_that_chance_could_show_is_warned_of():
    evaluation = evaluations.binary()
    parties = evaluation.parties.copy()
    parties.loc[parties["chosen"], "gain_p"] = 0.08
    page = parse(render(evaluation._replace(parties=parties)))
    warning = page.all("p", **{"class": "warning"})[0]
    assert "chance alone could well show such a gain (p = 0.080)" in words(warning)


def test_a_better_policy_that_was_not_chosen_is_not_kept_quiet(pages):
    said = words(pages["never_defers"].one("main"))
    assert "On these cases the policy least sure first does better than" in said
    assert "does better than the best single party, yet" not in words(
        pages["binary"].one("main")
    )


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("share", [0.3, 1.0])
def test_what_is_not_known_is_a_dash(share):
    evaluation = evaluations.binary()
    rng = np.random.default_rng(0)
    tables = {}
    for table in COLUMNS:
        frame = getattr(evaluation, table).copy()
        for column in frame.select_dtypes("number"):
            frame[column] = frame[column].mask(rng.random(len(frame)) < share)
        tables[table] = frame
    page = parse(render(evaluation._replace(**tables, calibration_error=np.nan)))
    assert "nan" not in words(page.one("main")).lower()
    if share == 1:
        rows = rows_of(table_of(page, "groups-table"))
        assert rows[0] == ["north", "most likely right", *[wording.UNKNOWN] * 3]


def test_calibration_in_words():
    evaluation = evaluations.binary()
    bins = pd.DataFrame(
        [(0.6, 0.62, 0.5, 0.7, 40), (0.9, 0.8, 0.75, 0.85, 160)],
        columns=COLUMNS["calibration"],
    )
    page = parse(render(evaluation._replace(calibration=bins, calibration_error=0.084)))
    said = words(page.one("section", **{"aria-labelledby": "calibration"}))
    assert (
        "On average predicted and observed lie 8.4 points apart. Widest apart: "
        "predicted 90 %, observed 80 % of 160 answers. In 1 of 2 bins the prediction "
        "lies outside the interval of what was observed."
    ) in said


def test_sets_of_people_in_words(pages):
    page = pages["many_people"]
    said = words(page.one("section", **{"aria-labelledby": "consult"}))
    assert (
        "was to hold one who is in 90 % of cases. On held-out cases it did in 91.4 % "
        "(88.5 to 93.6), with 1.62 people on average."
    ) in said
    assert "nobody was right in 4.2 % (2.8 to 6.2), where 3.9 % was predicted" in said
    assert "less than what was asked for" not in said
    rows = dict(rows_of(table_of(page, "consult-table")))
    assert rows["Sets of everybody"] == "2.1 %"
    assert rows["People in a set, 90 % quantile"] == "3"


def test_sets_that_hold_nobody_right_are_warned_of():
    few = evaluations.sets_of(covered=0.8, covered_low=0.75, covered_high=0.85)
    page = parse(render(evaluations.binary()._replace(consult=few)))
    section = page.one("section", **{"aria-labelledby": "consult"})
    assert "less than what was asked for" in words(
        section.one("p", **{"class": "warning"})
    )


def test_features_in_words(pages):
    said = words(pages["binary"].one("section", **{"aria-labelledby": "features"}))
    assert (
        "age (higher by 0.81), lesions (higher by 0.44), site = islands (higher by "
        "0.23)."
    ) in said


def test_more_methods_than_can_be_told_apart_are_left_to_the_numbers():
    evaluation = evaluations.binary()
    rng = np.random.default_rng(0)
    curve = pd.concat(
        [evaluations.curve_of(f"method {i}", 0.8, 0.2, rng) for i in range(8)]
    )
    page = parse(render(evaluation._replace(curve=curve)))
    drawn = {text.text for text in page.all("svg")[0].all("text")}
    assert f"method {figures.MAX_METHODS - 1}" in drawn
    assert f"method {figures.MAX_METHODS}" not in drawn
    assert len(rows_of(table_of(page, "curve-table"))) == 8 * 11
    assert "The first 6 of 8 methods are drawn" in words(page.one("main"))


def test_an_evaluation_that_lacks_a_column_is_refused():
    evaluation = evaluations.binary()
    with pytest.raises(ValueError, match="table curve of the evaluation lacks high"):
        render(evaluation._replace(curve=evaluation.curve.drop(columns="high")))


CHROMIUM = pathlib.Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser():
    api = pytest.importorskip("playwright.sync_api")
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"]
        )
        yield browser
        browser.close()


@pytest.fixture
def shown(browser, texts, tmp_path, example):
    """A tab with the example, and what it has asked for but the file."""
    file = tmp_path / "report.html"
    file.write_text(texts[example], encoding="utf-8")
    tab = browser.new_page()
    requests, said = [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("console", lambda message: said.append(message.text))
    tab.on("dialog", lambda dialog: said.append(dialog.message))
    tab.goto(file.as_uri())
    yield tab
    asked = [url for url in requests if not url.startswith("data:")]
    tab.close()
    assert asked == [file.as_uri()]
    assert said == []


OVERFLOW = """() => [...document.querySelectorAll(
  'body, header, main, footer, section, h1, h2, p, li, figure, svg, summary')]
  .filter(e => e.getBoundingClientRect().right > innerWidth + 0.5)
  .map(e => e.tagName)"""
WIDE_TABLES = """() => [...document.querySelectorAll('.table')]
  .filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText.slice(0, 40))"""
HIDDEN_TABLES = """() => [...document.querySelectorAll('details:not(.unprinted) table')]
  .filter(e => !e.checkVisibility({contentVisibilityAuto: true})
               || e.getBoundingClientRect().height < 100).length"""
OUTSIDE_DRAWING = """() => [...document.querySelectorAll('svg')].flatMap(svg => {
  const box = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')].filter(text => {
    const inner = text.getBoundingClientRect();
    return inner.left < box.left - 2 || inner.right > box.right + 2
           || inner.top < box.top - 2 || inner.bottom > box.bottom + 2;
  }).map(text => text.textContent)})"""


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 794, 1280])
def test_no_screen_is_too_narrow(shown, width):
    shown.set_viewport_size({"width": width, "height": 800})
    assert shown.evaluate("document.documentElement.scrollWidth") == width
    assert shown.evaluate(OVERFLOW) == []
    assert shown.evaluate(OUTSIDE_DRAWING) == []
    if width == 1280:
        assert shown.evaluate(WIDE_TABLES) == []


@pytest.mark.slow
def test_paper_holds_all_of_it(shown):
    # The width of A4 less the margins, at 96 pixels an inch.
    shown.set_viewport_size({"width": round((210 - 28) / 25.4 * 96), "height": 1000})
    shown.emulate_media(media="print")
    assert shown.evaluate("document.documentElement.scrollWidth") == 688
    assert shown.evaluate(WIDE_TABLES) == []
    assert shown.evaluate(HIDDEN_TABLES) == 0
    printed = shown.pdf(prefer_css_page_size=True)
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) >= 1


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_it_is_accessible(shown, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    shown.set_viewport_size({"width": width, "height": 800})
    shown.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    found = axe.Axe().run(shown).response
    assert len(found["passes"]) > 20
    assert [
        (violation["id"], violation["nodes"][0]["html"])
        for violation in found["violations"]
    ] == []
