"""The page of a report: whole, by itself, readable without eyes, and safe whatever it is told."""

from __future__ import annotations

import copy
import re
from itertools import combinations
from typing import Any

import pytest
from tests.unit.inspection.pages import Page

from ckd_cache.inspection.report.agreement import agreement
from ckd_cache.inspection.report.drawing import Words, draw
from ckd_cache.inspection.report.markup import anchor_of
from ckd_cache.inspection.report.page import page_of
from ckd_cache.inspection.report.palette import styles_of
from ckd_cache.inspection.report.plots import plot_genres
from ckd_cache.inspection.summary import summarise
from ckd_cache.inspection.target_figures import target_figures

HOSTILE = '<script>alert("1")</script> & \' $x_1$ \x1b[31m 演説'
SECTIONS = ["Prediction weights", "Agreement of teachers", "Calibration", "Uncertain mass"]


@pytest.fixture(scope="module")
def told(tiny: Any) -> tuple[Any, list[Any]]:
    """Summary and figures of the cache ``tiny``."""
    names = ("gold", "other")
    return summarise(tiny.path), [target_figures(tiny.path, "text", name) for name in names]


@pytest.fixture(scope="module")
def source(told: Any) -> str:
    return page_of(*told)


@pytest.fixture(scope="module")
def single(told: Any) -> str:
    """The page of the target ``gold`` alone, drawn anew."""
    summary, (gold, _) = copy.deepcopy(told)
    return page_of(summary, [gold])


@pytest.fixture(scope="module")
def page(source: str) -> Page:
    return Page(source)


def test_it_has_its_sections_and_its_contents_lead_to_them(page: Page) -> None:
    assert page.texts("h2") == ["Overview", "Target gold of set text", "Target other of set text"]
    assert [text for text in page.texts("h3") if text in SECTIONS] == 2 * SECTIONS
    links = [one.attributes["href"] for one in page.all("a")]
    sections = [one.attributes["id"] for one in page.all("section")]
    assert [f"#{name}" for name in sections] == links[1:]


def test_it_asks_for_nothing_from_anywhere(source: str, page: Page) -> None:
    for one in page.elements:
        assert one.name not in {"script", "link", "img", "iframe", "object", "base"}
        for name, value in one.attributes.items():
            assert not name.startswith("on")
            if name in {"src", "href", "xlink:href"}:
                assert value.startswith("#"), f"{one.name} {name}={value}"
    assert "url(" not in re.sub(r"url\(#[\w.-]+\)", "", source)
    assert "@import" not in source
    policies = [
        one.attributes["content"]
        for one in page.all("meta")
        if one.attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_names_inside_are_unique_and_what_is_referred_to_is_there(source: str, page: Page) -> None:
    ids = page.ids()
    assert len(ids) == len(set(ids))
    referred = set(re.findall(r'(?:href="#|url\(#)([^")]+)', source))
    for one in page.elements:
        referred |= set(one.attributes.get("aria-labelledby", "").split())
    assert referred <= set(ids)


def test_plots_can_be_heard(page: Page) -> None:
    drawings = [one for one in page.all("svg") if "aria-hidden" not in one.attributes]
    # Three of weights and nine of calibration for each target; two teachers need no matrix.
    assert len(drawings) == 2 * 12
    by_id = {one.attributes["id"]: one for one in page.elements if "id" in one.attributes}
    for one in drawings:
        assert one.attributes["role"] == "img"
        title, description = one.attributes["aria-labelledby"].split()
        assert len(by_id[title].text) > 10
        assert len(by_id[description].text) > 20
        assert "figure" in one.inside
    figures = len(page.all("figure"))
    assert figures == len(drawings) == len(page.texts("figcaption"))
    folded = [one for one in page.all("table") if one.inside.count("figure")]
    assert len(folded) >= figures
    assert all("details" in one.inside for one in folded)


def test_tables_have_captions_and_heads_and_scroll_by_keyboard(page: Page) -> None:
    assert len(page.all("caption")) == len(page.all("table"))
    assert all(one.attributes["scope"] in {"row", "col"} for one in page.all("th"))
    scrolling = [one for one in page.all("div") if one.attributes.get("class") == "scroll"]
    assert len(scrolling) == len(page.all("table"))
    assert all(one.attributes["tabindex"] == "0" for one in scrolling)
    assert all(one.attributes["aria-label"] for one in scrolling)
    assert page.all("html")[0].attributes["lang"] == "en"


def test_it_follows_the_colours_of_the_reader(source: str, page: Page) -> None:
    assert "prefers-color-scheme: dark" in source
    style = page.texts("style")[0]
    drawn = "".join(re.findall(r"<svg\b.*?</svg>", source, re.DOTALL))
    assert not re.findall(r"#[0-9a-f]{6}\b", drawn), "drawings have no colours of their own"
    for variable in set(re.findall(r"var\((--\w+)\)", drawn)):
        assert style.count(f"{variable}:") == 2, "one for light pages and one for dark ones"


def test_the_same_figures_make_the_same_bytes(single: str, source: str) -> None:
    gold = r'<section id="target-text-gold".*?</section>'
    drawn = [re.findall(gold, one, re.DOTALL) for one in (single, source)]
    assert len(drawn[0]) == 1
    assert drawn[0] == drawn[1]
    assert len(source.encode()) < 3 * 2**20 / 4


def test_the_numbers_are_those_of_the_figures(told: Any, page: Page) -> None:
    (gold, _) = told[1]
    tables = [one.text for one in page.all("table")]
    pair = gold["agreement"][0]
    assert any(f"{100 * pair['same_top1']:.1f} %" in one for one in tables)
    doubt = gold["uncertain"]
    wanted = [f"{doubt[name]:.4f}" for name in ("mean", "p99", "max")]
    assert any(all(one in text for one in wanted) for text in tables)
    assert gold["uncertain"]["cells"] in page.texts("p")
    assert any("looks at gold" in text for text in page.texts("p"))


def test_hostile_names_are_text_and_nothing_else(told: Any, single: str) -> None:
    summary, (gold, _) = copy.deepcopy(told)
    safe = [one.name for one in Page(single).elements]
    gold = renamed(gold)
    gold["weights"]["by_kind"][0]["genre"] = HOSTILE
    summary["sets"]["text"]["genres"] = {HOSTILE: 3}
    summary["sets"]["text"]["teachers"]["a"]["model"] = HOSTILE
    summary["path"] = HOSTILE
    source = page_of(summary, [gold], [HOSTILE])
    page = Page(source)
    assert [one.name for one in page.elements if one.name == "script"] == []
    # One note and nothing else came in.
    assert len(page.elements) == len(safe) + 1
    assert "\x1b" not in source
    shown = HOSTILE.replace("\x1b", "\\x1b")
    assert shown in page.texts("th")
    assert shown in page.texts("title")[0]
    assert f"{shown}0" not in source


def renamed(figures: Any) -> Any:
    """The figures with the teacher ``a`` under a hostile name."""

    def walk(value: Any) -> Any:
        if isinstance(value, dict):
            return {HOSTILE if key == "a" else key: walk(one) for key, one in value.items()}
        if isinstance(value, list):
            return [walk(one) for one in value]
        return HOSTILE if value == "a" else value

    return walk(figures)


def test_a_target_without_slots_or_teachers_is_said(told: Any) -> None:
    summary, (gold, _) = copy.deepcopy(told)
    empty = {**gold, "weights": None, "agreement": [], "calibration": None, "gone": ["a", "b"]}
    empty["sample"] = {**gold["sample"], "slots": 0}
    page = Page(page_of(summary, [empty]))
    assert "It has no slots." in page.texts("p")
    assert any("Not in the cache any more" in text for text in page.texts("p"))


def test_four_teachers_make_a_matrix(told: Any) -> None:
    figures = copy.deepcopy(told[1][0])
    figures["teachers"] = ["a", "b", "c", "d"]
    pair = figures["agreement"][0]
    figures["agreement"] = [
        {**pair, "teachers": list(both)} for both in combinations(figures["teachers"], 2)
    ]
    page = Page(agreement(figures, "t0"))
    (drawing,) = page.all("svg")
    assert drawing.text.count(f"{pair['same_top1']:.2f}") == 6
    assert drawing.text.count(f"{pair['total_variation']:.2f}") == 6
    assert len(page.all("tr")) == 1 + 6


def test_teachers_differ_in_more_than_colour() -> None:
    styles = styles_of([f"t{number}" for number in range(42)]).values()
    looks = {(one.colour, one.dashes, one.marker) for one in styles}
    assert len(looks) == 42
    first = list(styles)[:6]
    assert len({one.dashes for one in first}) == len({one.marker for one in first}) == 6


def test_drawings_do_not_depend_on_the_settings_of_the_user() -> None:
    import matplotlib as mpl

    def paint(figure: Any) -> None:
        figure.subplots().plot([0, 1], [0, 1])

    words = Words("k", "a title", "a description")
    before = draw(words, (3, 2), paint)
    with mpl.rc_context({"lines.linewidth": 9.0, "svg.fonttype": "path", "font.size": 30.0}):
        assert draw(words, (3, 2), paint) == before
        assert mpl.rcParams["lines.linewidth"] == 9.0, "and leave them as they are"


def test_letters_of_formulas_stay_letters(told: Any) -> None:
    """A genre that matplotlib would set as mathematics, and one whose letters its font lacks."""
    group = told[1][0]["weights"]["by_kind"][0]
    genres = ["$x_1^2$", "演説"]
    groups = [{**group, "genre": genre} for genre in genres]
    page = Page(plot_genres(Words("k", "a title", "of it"), groups, styles_of(["a", "b"])))
    assert set(genres) <= set(page.texts("text"))


def test_anchors_of_different_names_differ() -> None:
    names = [("a", "b-c"), ("a-b", "c"), ("a", "b_c"), ("a", "b", "c"), ("é", "x"), ("_e9", "x")]
    anchors = {anchor_of(*one) for one in names}
    assert len(anchors) == len(names)
    assert all(re.fullmatch(r"[\w-]+", one, re.ASCII) for one in anchors)
