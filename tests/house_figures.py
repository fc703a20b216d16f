"""Figures on how readable names and docstrings are, as counts that may only improve.

`make figures` prints them next to the values kept in tests/house_figures.json, and
`python -m tests.house_figures --keep` lowers the kept values to today's.
"""

import argparse
import ast
import io
import json
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KEPT = Path(__file__).with_suffix(".json")
PACKAGES = ("app", "backend", "autointerp", "feature_store")
DOCS = ("README.md", "CONTRIBUTING.md", "docs/*.md", "docs/decisions/*.md")
REPEATED_STEMS = {"__init__", "__main__", "records", "run", "base", "main"}
"""File stems that may occur more than once in a package."""
GERUNDS = frozenset(
    ("sampling", "loading", "processing", "pruning", "probing", "fuzzing", "embedding", "tracing")
)
"""Terms of the field that end in -ing, allowed as file stems."""
PARTICIPLES = frozenset(
    (
        "asked",
        "shown",
        "spliced",
        "chosen",
        "known",
        "drawn",
        "taken",
        "kept",
        "told",
        "said",
        "seen",
        "given",
        "opened",
        "judged",
    )
)
"""Participles that a file must not be named for."""
PLAIN_FOLDERS = ("app/commands/", "app/panels/")
"""Folders of the application that are in plain English already: help, errors, the feature page."""
TRAINING_TEXT = "backend/demo/story_templates.py"
"""Sentences that the demo's model is trained on: its figures rest on them, refused words or not."""
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def package_files(package: str) -> list[Path]:
    """Return the Python files of a package, in order of their paths."""
    return sorted((ROOT / package).rglob("*.py"))


@cache
def parse_file(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse(path.read_text("utf-8"))


def public_functions(package: str) -> list[str]:
    """Return the names of the public module-level functions of a package."""
    functions = [
        node
        for path in package_files(package)
        for node in parse_file(path).body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    return [node.name for node in functions if not node.name.startswith("_")]


def one_word_share(package: str) -> float:
    """Return the share, in percent, of a package's public functions with a one-word name."""
    names = public_functions(package)
    return round(100 * sum("_" not in name for name in names) / len(names), 1)


def repeated_classes(package: str) -> list[str]:
    """Return the class names of a package that another class, in any package, has too."""
    classes = [
        (node.name, owner)
        for owner in PACKAGES
        for path in package_files(owner)
        for node in parse_file(path).body
        if isinstance(node, ast.ClassDef)
    ]
    counts = Counter(name for name, _ in classes)
    return sorted({name for name, owner in classes if owner == package and counts[name] > 1})


def unclear_stems(package: str) -> list[str]:
    """Return the paths of files whose stem repeats in the package, or is a gerund or participle."""
    files = [path for path in package_files(package) if path.stem not in REPEATED_STEMS]
    counts = Counter(path.stem for path in files)
    return [
        str(path.relative_to(ROOT))
        for path in files
        if counts[path.stem] > 1 or path.stem in PARTICIPLES or is_gerund(path.stem)
    ]


def is_gerund(stem: str) -> bool:
    """Tell whether a file stem is one word in -ing that is not a term of the field."""
    return "_" not in stem and stem.endswith("ing") and stem not in GERUNDS


def short_docstrings(package: str) -> list[str]:
    """Return where a package has a docstring of fewer than five words."""
    found = []
    for path in package_files(package):
        for node in ast.walk(parse_file(path)):
            if not isinstance(node, Definition | ast.Module):
                continue
            text = ast.get_docstring(node)
            if text is not None and len(text.split()) < 5:
                found.append(f"{path.relative_to(ROOT)}: {getattr(node, 'name', 'module')}")
    return found


def formatting_exceptions() -> list[str]:
    """Return the Python files that switch the formatter off for some lines."""
    folders = (*PACKAGES, "tests", "benchmarks", "docs")
    files = [path for folder in folders for path in package_files(folder)]
    marker = re.compile(r"#\s*fmt:\s*(skip|off)")
    return [str(path.relative_to(ROOT)) for path in files if marker.search(path.read_text("utf-8"))]


@cache
def refused_words() -> tuple[str, ...]:
    """Return the words in the left column of the second table of docs/glossary.md."""
    _, table = (ROOT / "docs" / "glossary.md").read_text("utf-8").split("| Refused |")
    rows = re.findall(r"^\| ([^|]+?) \|", table, flags=re.MULTILINE)
    return tuple(rows)


@cache
def refused_pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Return the pattern that finds each of the words, also where a line breaks within it."""
    choices = "|".join(re.escape(word) for word in words).replace(r"\ ", r"\s+")
    return re.compile(rf"\b({choices})\b", re.IGNORECASE)


def refused_in_text(text: str) -> list[str]:
    """Return each refused word of a text, as often as it occurs."""
    found = refused_pattern(refused_words()).findall(text)
    return [" ".join(word.lower().split()) for word in found]


def python_prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the text of each comment and string of Python source."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING):
            yield token.start[0], token.string


def refused_in_package(package: str) -> list[str]:
    """Return where comments and strings of a package use a refused word."""
    return [
        f"{path.relative_to(ROOT)}:{line}: {word}"
        for path in package_files(package)
        if path.relative_to(ROOT).as_posix() != TRAINING_TEXT
        if (source := path.read_text("utf-8")) and refused_in_text(source)
        for line, text in python_prose(source)
        for word in refused_in_text(text)
    ]


def refused_in_docs() -> list[str]:
    """Return where the docs use a refused word; the glossary's own table is left out."""
    found = []
    for path in sorted(path for pattern in DOCS for path in ROOT.glob(pattern)):
        text = path.read_text("utf-8").split("| Refused |")[0]
        found += [f"{path.relative_to(ROOT)}: {word}" for word in refused_in_text(text)]
    return found


def list_findings() -> dict[str, list[str]]:
    """Return, for each counted figure, the places that it counts."""
    found: dict[str, list[str]] = {"exceptions from the formatter": formatting_exceptions()}
    for package in PACKAGES:
        found[f"class names used more than once, {package}"] = repeated_classes(package)
        found[f"unclear file stems, {package}"] = unclear_stems(package)
        found[f"docstrings under five words, {package}"] = short_docstrings(package)
        found[f"refused words, {package}"] = refused_in_package(package)
    found["refused words, commands and panels"] = [
        place for place in found["refused words, app"] if place.startswith(PLAIN_FOLDERS)
    ]
    found["refused words, docs"] = refused_in_docs()
    return found


def measure_figures(findings: dict[str, list[str]]) -> dict[str, float]:
    """Return every figure of today's code by its name, given its findings."""
    shares = {f"one-word functions, {package}, %": one_word_share(package) for package in PACKAGES}
    return shares | {name: len(places) for name, places in findings.items()}


def read_kept() -> dict[str, float]:
    """Return the figures that today's must not exceed."""
    return json.loads(KEPT.read_text("utf-8"))


def main() -> None:
    """Print the figures, or keep today's where they are better."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", action="store_true", help="Lower the kept figures to today's.")
    parser.add_argument("--list", metavar="NAME", help="List the places of figures named so.")
    asked = parser.parse_args()
    kept = read_kept() if KEPT.exists() else {}
    findings = list_findings()
    if asked.list:
        print("\n".join(p for name, found in findings.items() if asked.list in name for p in found))
        return
    today = measure_figures(findings)
    print(f"{'figure':<52}{'today':>8}{'kept':>8}")
    for name, value in today.items():
        print(f"{name:<52}{value:>8g}{kept.get(name, float('inf')):>8g}")
    if asked.keep:
        lowest = {name: min(value, kept.get(name, value)) for name, value in today.items()}
        KEPT.write_text(json.dumps(lowest, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
