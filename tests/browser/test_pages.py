from itertools import pairwise

import pytest
from browser import ENTER, SPACE, TAB

from paperzoo import cards

NAMES = ("usual", "long", "search", "hostile", "empty", "index")
PUBLISHED = sorted(path.parent.name for path in cards.REPORTS.glob("*/index.html"))

# The contrast of every text with what lies behind it (WCAG 2: 4.5 for text, 3 where it is large), worst first.
CONTRAST = """
const parse = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (; element; element = element.parentElement) {
    const color = parse(getComputedStyle(element).backgroundColor);
    if (color.length === 3 || color[3] > 0) return color;
  }
  return [255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || element.closest("script, style") || !element.getClientRects().length) continue;
  const style = getComputedStyle(element);
  const svg = element.closest("svg");
  const a = light(parse(svg ? style.fill : style.color)), b = light(behind(svg || element));
  found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), walker.currentNode.data.trim().slice(0, 40)]);
}
return found.sort((x, y) => x[0] - y[0]);
"""


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_loaded_and_nothing_complains(browser, pages, name):
    browser.open(pages[name])
    assert [url for url in browser.requests() if not url.startswith("data:")] == [pages[name].as_uri()]
    assert browser.logs("browser") == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_every_text_stands_out_in_light_and_dark(browser, pages, name, dark):
    browser.open(pages[name], dark=dark)
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    texts = browser.run(CONTRAST)
    assert len(texts) > 10
    assert texts[0][0] >= 4.5, texts[:5]
    light = browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(254, 254, 254)"
    assert light is not dark


@pytest.mark.parametrize("name", ["usual", "hostile"])
def test_a_figure_turns_with_the_page(browser, pages, name):
    paper = "return getComputedStyle(document.querySelector('figure svg g path')).fill"
    for dark, expected in ((False, "rgb(254, 254, 254)"), (True, "rgb(23, 26, 32)")):
        browser.open(pages[name], dark=dark)
        assert browser.run(paper) == expected


@pytest.mark.parametrize("width", [360, 768, 1280, 1920])
@pytest.mark.parametrize("name", ["usual", "long", "search", "empty", "index", *PUBLISHED])
def test_no_table_is_clipped_and_every_verdict_is_in_sight(browser, pages, name, width):
    browser.open(pages.get(name) or cards.REPORTS / name / "index.html", width=width)
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    clipped = browser.run(
        "return [...document.querySelectorAll('.scroll')].filter((e) => e.scrollWidth > e.clientWidth + 1).map((e) =>"
        " [e.getAttribute('aria-labelledby'), e.scrollWidth, e.clientWidth])"
    )
    assert clipped == []
    sides = browser.run(
        "return [...document.querySelectorAll('td.verdict, td.claim, .entry td:first-of-type')].map((e) => {"
        "const side = e.getBoundingClientRect(); return [side.left, side.right, side.height]; })"
    )
    assert all(left >= 0 and right <= width and height > 0 for left, right, height in sides)
    assert len(sides) > 0 or name in ("search", "empty") or is_check(name)


def is_check(name):
    """A published report in which nothing is compared has no verdict."""
    given = cards.REPORTS / name / "report.yaml"
    return given.is_file() and "\nbaseline: false\n" in given.read_text()


def test_on_a_phone_every_cell_says_what_it_is(browser, pages):
    browser.open(pages["usual"], width=360)
    labels = browser.run(
        "return [...document.querySelectorAll('#variants + .scroll tbody tr:last-child td')].map((e) =>"
        " getComputedStyle(e, '::before').content)"
    )
    assert len(labels) == 9
    assert labels[0] == '"Verdict"'
    assert all(len(label) > 2 for label in labels)


@pytest.mark.parametrize("width", [360, 768])
@pytest.mark.parametrize("name", NAMES)
def test_a_narrow_page_does_not_scroll_sideways(browser, pages, name, width):
    browser.open(pages[name], width=width)
    browser.run("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    assert browser.run("return document.documentElement.scrollWidth") == width
    beyond = browser.run(
        "return [...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll, svg, .unseen, .skip') &&"
        " e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.outerHTML.slice(0, 80))"
    )
    assert beyond == []


def test_letters_of_figures_can_be_read_on_a_phone(browser, pages):
    browser.open(pages["long"], width=360)
    sizes = browser.run(
        "return [...document.querySelectorAll('figure svg text')].map((text) => { const { a, b } = text.getScreenCTM();"
        "return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(a, b); })"
    )
    assert min(sizes) >= 7.5  # CSS pixels


def test_names_are_text(browser, pages):
    browser.open(pages["hostile"])
    assert browser.run("return document.querySelectorAll('script').length") == 1
    assert browser.run("return document.querySelectorAll('img, iframe, object, [onerror]').length") == 0
    assert '<script>alert("x")</script>' in browser.run("return document.querySelector('h1').textContent")
    assert '"><img src=x onerror=alert(1)>' in browser.run("return document.querySelector('main').textContent")
    browser.open(pages["index"])
    assert browser.run("return document.querySelectorAll('script').length") == 1
    assert '<script>alert("x")</script>' in browser.run("return document.querySelector('main').textContent")


def test_what_is_injected_cannot_run(browser, pages):
    """The policy in the page's head stops what escaping would have let through."""
    browser.open(pages["usual"])
    browser.run(
        "const bad = document.createElement('script'); bad.textContent = 'window.ran = 1'; document.body.append(bad);"
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = true\">')"
    )
    assert browser.run("return window.ran === undefined")
    assert any("Content Security Policy" in entry["message"] for entry in browser.logs("browser"))


@pytest.mark.parametrize("name", ["usual", "index"])
def test_the_keyboard_reaches_everything(browser, pages, name):
    browser.open(pages[name])
    everything = browser.run(
        "window.all = [...document.querySelectorAll('a[href], button, input, summary, [tabindex=\"0\"]')].filter("
        "(e) => e.checkVisibility()); return all.length"
    )
    reached = []
    for _ in range(everything):
        browser.press(TAB)
        reached.append(browser.run("return all.indexOf(document.activeElement)"))
    assert reached == list(range(everything))
    assert browser.run("return getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_the_skip_link_skips(browser, pages):
    browser.open(pages["usual"])
    browser.press(TAB)
    assert browser.run("return document.activeElement.getBoundingClientRect().top >= 0")
    browser.press(ENTER)
    assert browser.run("return document.activeElement.id") == "content"


def test_a_command_is_copied_and_details_open_by_keys(browser, pages):
    browser.open(pages["usual"])
    browser.command("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    browser.run("document.querySelector('button[data-copy=variant-3]').focus()")
    browser.press(ENTER)
    browser.run("return new Promise((done) => setTimeout(done, 200))")
    assert browser.run("return document.getElementById('copied').textContent") == "Copied to the clipboard"
    assert browser.run("return navigator.clipboard.readText()").startswith("python src/train.py model=scnet ")
    browser.run("document.querySelector('#runs + details summary').focus()")
    browser.press(SPACE)
    assert browser.run("return document.querySelector('#runs + details').open")
    assert browser.run("return document.querySelectorAll('#runs + details tbody tr').length") == 18


def test_the_filter_keeps_what_has_every_word(browser, pages):
    browser.open(pages["index"])
    shown = "return [...document.querySelectorAll('.entry')].filter((e) => e.getClientRects().length).length"
    everything = browser.run(shown)
    browser.run("document.getElementById('filter').focus()")
    browser.press(*"SCNet cvpr")
    found = browser.run("return [...document.querySelectorAll('.entry:not([hidden])')].map((e) => e.id)")
    assert found == ["paper-scnet"]
    assert browser.run("return document.getElementById('count').textContent") == f"1 of {everything} shown"


def test_without_javascript_everything_is_there(browser, pages):
    """The document is read by the DevTools protocol, as no script runs."""
    for name in ("index", "usual"):
        browser.open(pages[name], script=False)
        nodes = browser.command("Accessibility.getFullAXTree")["nodes"]
        words = " ".join(str(node.get("name", {}).get("value", "")) for node in nodes if not node.get("ignored"))
        assert "scnet" in words
        assert (
            "Aggregated Residual Transformations" if name == "index" else "python src/train.py model=resnext"
        ) in words
        roles = {node["role"]["value"] for node in nodes if not node.get("ignored")}
        assert not roles & {"button", "searchbox"}  # what would not work is not shown
    browser.open(pages["index"])


@pytest.mark.parametrize("name", NAMES)
def test_what_a_screen_reader_hears_has_names(browser, pages, name):
    browser.open(pages[name])
    nodes = [node for node in browser.command("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    roles: dict[str, list[str]] = {}
    for node in nodes:
        roles.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", "").strip())
    for role in ("link", "button", "searchbox", "image", "img", "region", "table", "figure", "heading", "columnheader"):
        assert all(roles.get(role, [])), role
    assert len(roles["main"]) == 1
    assert {"banner", "contentinfo"} <= set(roles)
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3')].map((h) => Number(h.tagName[1]))")
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert (
        browser.run(
            "const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);"
            "return ids.filter((id, place) => ids.indexOf(id) !== place)"
        )
        == []
    )
    assert browser.run("return document.querySelectorAll('table:not(:has(caption)), th:not([scope])').length") == 0


def test_printed_it_is_light_and_shows_no_buttons(browser, pages):
    browser.open(pages["usual"], dark=True)
    browser.command("Emulation.setEmulatedMedia", media="print", features=[])
    assert browser.run("return getComputedStyle(document.body).backgroundColor") == "rgb(254, 254, 254)"
    assert browser.run("return [...document.querySelectorAll('button')].every((b) => !b.getClientRects().length)")
    browser.command("Emulation.setEmulatedMedia", media="", features=[])
