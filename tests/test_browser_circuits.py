"""Circuits in a real browser: run, prune, pin, group, path, open a node, take out and in again."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from tests.browser import LOADING_MS, served, visiting
from tests.harvests import harvest_on_disk

pytestmark = pytest.mark.browser
LINK = {
    "prompts": "the old cat saw a red ball and then the cat",
    "target": " took",
    "against": " was",
    "method": "sparse-features",
}
FEATURE = re.compile(r"mlp-\d/\d+@\d+")
HOOKS = {"hook_name": "blocks.{}.ln2.hook_normalized", "hook_name_out": "blocks.{}.hook_mlp_out"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A tiny harvest with a transcoder for two layers, served."""
    folder = tmp_path_factory.mktemp("circuits")
    given = {
        f"mlp-{layer}": {
            "architecture": "transcoder",
            "d_out": 16,
            "d_sae": 32 + layer,
            "metadata": {name: hook.format(layer) for name, hook in HOOKS.items()},
        }
        for layer in (0, 2)
    }
    harvest_on_disk(folder, **given)
    with served(folder / "store", folder / "log") as url:
        yield url, folder / "log"


def graph(page) -> dict:
    """What the graph shows: ids of nodes, of the selected and of the marked; edges there are."""
    return page.locator(".stage").evaluate(
        """stage => { const { cy, data } = stage.getRootNode().querySelector(".root").view;
        const ids = (nodes) => nodes.map((node) => node.id());
        return { nodes: ids(cy.nodes()), selected: ids(cy.nodes(":selected")),
                 marked: ids(cy.nodes(".marked")), pinned: ids(cy.nodes(".pinned")),
                 edges: data.edges.source.length, label: data.nodes[0].title }; }"""
    )


def until(page, what) -> dict:
    """The graph, once it is so."""
    for _ in range(150):
        found = graph(page)
        if what(found):
            return found
        page.wait_for_timeout(200)
    raise AssertionError(f"never so: {found}")


def press(page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def choose(page, *places: int) -> list[str]:
    """Select nodes by the keyboard: so many Tabs, then Enter; the next ones with Shift."""
    page.locator(".stage").evaluate(
        "stage => { stage.getRootNode().querySelector('.root').view.at = -1; }"
    )
    page.locator(".stage").focus()
    at = 0
    for i, place in enumerate(places):
        for _ in range(place + 1 - at):
            page.keyboard.press("Tab")
        at = place + 1
        page.keyboard.press("Shift+Enter" if i else "Enter")
    found = until(page, lambda g: len(g["selected"]) == len(places))
    page.wait_for_timeout(300)
    return found["selected"]


def run(page, method: str = "sparse-features") -> list[str]:
    """The ids of the nodes shown at first."""
    page.goto(f"/circuits?{urlencode(LINK | {'method': method})}")
    press(page, "Run")
    page.get_by_text("Strongest nodes").or_(
        page.get_by_test_id("stMarkdown").get_by_text(re.compile("failed|Error"))
    ).first.wait_for(timeout=LOADING_MS)
    assert "experiment=" in page.url
    page.locator(".stage canvas").first.wait_for()
    return until(page, lambda g: len(g["nodes"]) > 12)["nodes"]


def prune(page, whole: list[str]) -> None:
    """By the keys of the slider, to nothing and back."""
    page.get_by_role("slider").first.focus()
    page.keyboard.press("Home")
    pruned = until(page, lambda g: len(g["nodes"]) < len(whole))
    assert [n for n in pruned["nodes"] if "/error@" in n]  # error terms are always there
    page.wait_for_url(re.compile("nodes=0"))
    page.get_by_role("slider").first.focus()
    page.keyboard.press("End")
    until(page, lambda g: len(g["nodes"]) >= len(whole))


def open_and_pin(page, place: int) -> str:
    """Its feature's panels stand beside the graph."""
    (first,) = choose(page, place)
    page.get_by_text(re.compile(r"^pin$")).first.wait_for()
    page.get_by_role("heading", name="Contexts").wait_for()
    press(page, "pin")
    until(page, lambda g: g["pinned"] == [first])
    return first


def path_and_group(page, features: list[int]) -> None:
    """The path between two nodes; a group of two."""
    a, b = choose(page, *features[:2])
    press(page, "path between them")
    page.get_by_role("button", name=re.compile("path between ")).first.wait_for()
    choose(page, *features[1:3])
    page.get_by_role("button", name="path between them").wait_for()
    page.wait_for_timeout(2000)
    page.get_by_label("Group them as").fill("verbs")
    page.get_by_label("Group them as").press("Enter")
    until(page, lambda g: "group:verbs" in g["nodes"] and b not in g["nodes"])


def check_an_edge(page) -> None:
    """What it predicts beside what interventions measure; and what is shown is measured."""
    edge = page.locator(".stage").evaluate(
        """stage => { const root = stage.getRootNode().querySelector(".root");
        const { edges, nodes } = root.view.data;
        const ids = edges.source.map((s, i) => [nodes[s].id, nodes[edges.target[i]].id]);
        return ids.find((both) => both.every((id) => id.startsWith("mlp-"))); }"""
    )
    shown = graph(page)["nodes"]
    choose(page, *sorted(shown.index(id) for id in edge))
    press(page, "check edge")
    page.get_by_text(re.compile("Check of the edge")).wait_for()
    page.locator("th", has_text="measured").first.wait_for(timeout=LOADING_MS)
    page.get_by_text("measured now on 1").wait_for(timeout=LOADING_MS)


def out_and_in_again(page, file: Path, pinned: str, whole: list[str]) -> None:
    """The same graph with its pins and groups."""
    press(page, "Export")
    with page.expect_download() as download:
        press(page, "Download circuit-tracer JSON")
    download.value.save_as(file)
    marks = json.loads(file.read_text())["qParams"]
    assert marks["supernodes"][0][0] == "verbs" and len(marks["pinnedIds"]) == 1
    shown = graph(page)
    before = page.url
    page.keyboard.press("Escape")
    press(page, "All circuits")
    press(page, "Import")
    page.locator("input[type=file]").set_input_files(file)
    page.wait_for_url(lambda now: "experiment=" in now and now != before)
    again = until(page, lambda g: "group:verbs" in g["nodes"] and g["pinned"] == [pinned])
    assert set(again["nodes"]) <= set(shown["nodes"]) | set(whole)


def test_a_circuit_from_its_run_to_its_file_and_back(
    browser, site: tuple[str, Path], tmp_path: Path
) -> None:
    url, log = site
    with visiting(browser, url, log) as page:
        whole = run(page)
        features = [i for i, id in enumerate(whole) if FEATURE.fullmatch(id)]
        prune(page, whole)
        pinned = open_and_pin(page, features[0])
        path_and_group(page, features)
        check_an_edge(page)
        out_and_in_again(page, tmp_path / "circuit.json", pinned, whole)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_an_attribution_graph_is_run_by_ablation_too(browser, site: tuple[str, Path]) -> None:
    """Faithfulness of what is shown; an edge and the nodes, predicted against measured."""
    url, log = site
    with visiting(browser, url, log) as page:
        run(page, "attribution-graph")
        page.get_by_text("measured now on 1").wait_for(timeout=LOADING_MS)
        check_an_edge(page)
        press(page, "Check nodes")
        page.get_by_text("patterns and norms held").last.wait_for(timeout=LOADING_MS)
