"""The pages in a real browser, over a store made by hand: what a person does, and sees."""

import re
from collections.abc import Iterator

import pytest

from app import theme
from tests.browser import visiting
from tests.stores import DEAD

pytestmark = pytest.mark.browser


@pytest.fixture
def page(browser, plain) -> Iterator:
    """A fresh page; afterwards nothing may have gone wrong in it or in the server."""
    url, folder = plain
    with visiting(browser, url, folder / "log") as found:
        yield found


def heading(page, text: str) -> None:
    """Wait until the feature page shows this feature and its contexts."""
    page.locator("h1", has_text=re.compile(rf"^{text}(?!\d)")).wait_for()
    page.locator(".line .tok.peak").first.wait_for()


def test_from_library_to_a_feature_and_on(page) -> None:
    """Library → features → feature → next, previous, by link and by key; all in the URL."""
    page.goto("/")
    page.locator("a.link", has_text="resid").click()
    page.locator("tbody tr").nth(2).locator("td").nth(5).click()
    heading(page, "resid / 2")
    assert page.locator(".line").count() == 20
    page.locator("a.link", has_text="next").click()
    heading(page, "resid / 3")
    page.keyboard.press("ArrowLeft")
    heading(page, "resid / 2")
    page.keyboard.press("j")
    heading(page, "resid / 3")
    assert "feature=resid%2F3" in page.url
    page.go_back()
    heading(page, "resid / 2")


def test_back_undoes_what_a_person_did_and_nothing_else(page) -> None:
    """A page that puts what is usual into its own URL makes no step of the browser's history."""
    page.goto("/features?dictionary=resid")
    page.locator("tbody tr").nth(2).locator("td").nth(5).click()
    heading(page, "resid / 2")
    page.get_by_role("link", name="steer", exact=True).click()
    page.wait_for_url("**/steer?**edits=**")
    page.go_back()
    heading(page, "resid / 2")
    assert page.title() == "resid/2 · Saefari"
    page.go_back()
    page.get_by_role("heading", name="Features of resid").wait_for()
    assert "feature=" not in page.url


def test_filters_stand_in_the_url_and_wait_for_the_way_back(page) -> None:
    """Back from a feature shows the table again, and so does the sidebar, filters kept."""
    page.goto("/features?dictionary=abs&show=dead&filter=max_act:0.5..")
    page.get_by_text("No feature passes").wait_for()
    page.get_by_text("all", exact=True).click()
    page.get_by_text("39 of 40 features").wait_for()
    page.get_by_role("button", name="Filter").click()
    page.get_by_label("To, in %").fill("3")
    page.get_by_label("To, in %").press("Enter")
    page.get_by_role("button", name="Add", exact=True).click()
    page.wait_for_url("**density%3A..0.03**")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="max ≥").click()
    page.wait_for_url(lambda url: "max_act" not in url)
    page.get_by_text("4 of 40 features").wait_for()
    page.locator("tbody tr").first.click()
    heading(page, "abs / 0")
    page.go_back()
    page.get_by_role("button", name="density ≤").wait_for()
    page.go_forward()
    heading(page, "abs / 0")
    page.get_by_test_id("stSidebar").get_by_text("Features").click()
    page.get_by_text("4 of 40 features").wait_for()
    assert "show=all" in page.url and "dictionary=abs" in page.url


def test_the_way_through_features_is_that_of_the_table(page) -> None:
    """A heading sorts the whole dictionary; next and previous follow, and so does a shared link."""
    page.goto("/features?dictionary=resid&columns=max_act")
    page.locator("th a", has_text="max").click()
    page.locator("th[aria-sort=descending]", has_text="max").wait_for()
    order = page.locator("tbody tr td:first-child").all_inner_texts()
    page.locator("tbody tr").nth(1).click()
    heading(page, f"resid / {order[1]}")
    assert page.locator(".place").inner_text() == "2 of 39"
    page.keyboard.press("j")
    heading(page, f"resid / {order[2]}")
    page.goto(page.url)
    heading(page, f"resid / {order[2]}")
    assert page.locator(".place").inner_text() == "3 of 39"
    page.locator(".place").click()
    page.locator("th[aria-sort=descending]", has_text="max").wait_for()


def test_the_search_of_the_bar_goes_everywhere(page) -> None:
    """By key from any page: a number opens a feature, a word is searched for."""
    page.goto("/features?dictionary=resid")
    page.locator("tbody tr").first.wait_for()
    page.keyboard.press("Control+k")
    page.keyboard.type("12")
    page.keyboard.press("Enter")
    heading(page, "resid / 12")
    page.keyboard.press("/")
    page.keyboard.type("99")
    page.keyboard.press("Enter")
    page.get_by_text("resid has features 0 to 39").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("dog")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search?**q=dog**")


def test_only_the_open_tab_is_drawn(page) -> None:
    page.goto("/feature?feature=resid/3&tab=Family")
    heading(page, "resid / 3")
    assert page.get_by_label("Label").count() == 0
    page.keyboard.press("l")  # to the field of the label, wherever it is
    page.wait_for_function("document.activeElement.getAttribute('aria-label') === 'Label'")
    page.keyboard.press("Escape")


def test_token_text_is_text(page) -> None:
    """A document that contains markup shows it, and nothing of it runs."""
    page.goto("/feature?feature=resid/3")
    heading(page, "resid / 3")
    words = "".join(page.locator(".tok").all_text_contents())
    assert "<script>alert(1)</script>" in words and " &amp;" in words and " a & b" in words
    assert page.locator(".root script").count() == 0


def test_a_token_says_what_it_is(page) -> None:
    """Hover and keyboard focus show id, activation, position and document; Enter opens a line."""
    page.goto("/feature?feature=resid/3")
    heading(page, "resid / 3")
    page.locator(".tok.peak").nth(1).hover()
    tip = page.locator(".tip")
    tip.wait_for()
    assert re.search(r"id \d+\nactivation \d.*\nposition \d+, text.jsonl#1$", tip.inner_text())
    page.locator(".tok.peak").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    assert page.locator(".line.open").count() == 1
    assert re.match(r"resid / 3(?!\d)", page.locator("h1").inner_text())


def test_strata_and_neighbours(page) -> None:
    """Tabs change the stratum; a neighbour opens and the stratum stays chosen."""
    page.goto("/feature?feature=abs/3")
    heading(page, "abs / 3")
    page.get_by_role("tab", name="bottom").click()
    assert page.locator(".value").first.inner_text().startswith("−")
    assert page.locator(".tok.peak.negative").count() == 20
    page.get_by_role("tab", name="deciles").click()
    assert "of activation mass" in page.locator(".section").first.inner_text()
    page.locator("td a.link", has_text="4").first.click()
    heading(page, "abs / 4")
    assert page.locator(".section").count() > 3


def test_dead_and_unknown_features_are_sentences(page) -> None:
    page.goto(f"/feature?feature=resid/{DEAD}")
    page.get_by_text("never fired in").wait_for()
    page.goto("/feature?feature=resid/99")
    page.get_by_text("There is no feature resid/99").wait_for()
    page.get_by_text("All features of resid").click()
    page.locator("tbody tr").first.wait_for()


def numbers(style: str) -> list[int]:
    """The channels of `rgb(31, 35, 40)color(srgb 1 0.6 0.2)`, 0 to 255."""
    whole, _, parts = style.partition("color(srgb")
    plain = [int(n) for n in re.findall(r"\d+", whole)]
    return plain + [round(255 * float(n)) for n in re.findall(r"[\d.]+", parts)]


def rgb(colour: str) -> list[int]:
    return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_light_and_dark(browser, plain) -> None:
    """Both themes come from the browser's preference, down to the heat of a token."""
    url, _ = plain
    seen = []
    for scheme in ("light", "dark"):
        context = browser.new_context(base_url=url, color_scheme=scheme)
        page = context.new_page()
        page.goto("/feature?feature=resid/3")
        heading(page, "resid / 3")
        style = "e => getComputedStyle(e).color + getComputedStyle(e).backgroundColor"
        seen.append(numbers(page.locator(".tok.peak").first.evaluate(style)))
        context.close()
    assert seen[0] == rgb(theme.LIGHT.text) + rgb(theme.LIGHT.positive)
    assert seen[1] == rgb(theme.DARK.text) + rgb(theme.DARK.positive)
