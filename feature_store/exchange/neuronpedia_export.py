"""Neuronpedia export: write a dictionary's dashboards in the layout of Neuronpedia's public dumps.

    OUT/MODEL/SOURCE/model.jsonl, sourceset.jsonl, source.jsonl, release.jsonl
    OUT/MODEL/SOURCE/features/batch-0.jsonl.gz, activations/…, explanations/…

A batch of 1024 features is read and written before the next one, so memory does not grow with the
dictionary. Fields that a harvest does not know (neuron alignment, histograms of logits) stay empty,
as the layout allows. Contexts of negative activations cannot be represented and are left out.
"""

import gzip
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from feature_store.atomic_file import draft_folder
from feature_store.errors import InputError
from feature_store.exchange.activation_intervals import (
    ActivationInterval,
    find_interval,
    histogram_bars,
    split_into_intervals,
)
from feature_store.exchange.neuronpedia_import import SAEFARI_KEY
from feature_store.explanations import Explanation, Explanations
from feature_store.harvest_reader import HarvestFile
from feature_store.records import DictionaryInfo
from feature_store.storable_text import make_storable_value
from feature_store.strict_json import dump_json
from feature_store.vocabulary import Vocabulary

FEATURES_PER_FILE = 1024
"""Number of features in one exported file, as in Neuronpedia's own dumps."""
CONTEXTS_PER_CHUNK = 4096
"""Number of contexts that the Neuronpedia export converts at once."""
CREATOR_ID = "clkht01d40000jv08hvalcvly"
"""Id of Neuronpedia's own account for bulk imports: every row of a dump must name an existing
account."""
FEATURE_COLUMNS = (
    "feature, density, max_act, histogram_start, histogram, positive, promoted_tokens, "
    "promoted_values, suppressed_tokens, suppressed_values, nearest, nearest_cosine, "
    "first_context, n_contexts"
)
CONTEXT_COLUMNS = (
    "feature, stratum, rank, sequence, start, length, peak, value, positions, activations"
)
SIGNED_COLUMNS = ("density", "max_act", "histogram_start", "histogram")
"""Columns that the Neuronpedia export takes from the positive side of a signed feature."""
LAYER_PREFIX = re.compile(r"(?:[0-9]+|e)-.")
"""Pattern by which Neuronpedia finds the layer in the name of a source."""
EMPTY_LISTS = {
    name: []
    for name in (
        "vector",
        "neuron_alignment_indices",
        "neuron_alignment_values",
        "neuron_alignment_l1",
        "correlated_neurons_indices",
        "correlated_neurons_pearson",
        "correlated_neurons_l1",
        "correlated_features_indices",
        "correlated_features_pearson",
        "correlated_features_l1",
        "logits_hist_data_bar_heights",
        "logits_hist_data_bar_values",
        "decoder_weights_dist",
    )
}
"""Lists of Neuronpedia's layout that a harvest has no data for."""


@dataclass(frozen=True)
class NeuronpediaSource:
    """Neuronpedia's name of a dictionary: a model and a source LAYER-SET."""

    model: str
    id: str

    @property
    def set_name(self) -> str:
        """Name of the Neuronpedia source without its layer."""
        return self.id.partition("-")[2] or self.id

    @classmethod
    def for_dictionary(
        cls, file: HarvestFile, info: DictionaryInfo, given_name: str | None
    ) -> "NeuronpediaSource":
        """Return the Neuronpedia source given as MODEL/LAYER-SET, or one derived from the hook
        point and the dictionary's name."""
        if given_name is None:
            layer = re.search(r"blocks\.([0-9]+)\.", info.hook_name)
            if layer is None and "embed" not in info.hook_name:
                raise InputError(
                    f"{info.dictionary} reads {info.hook_name}, which is not a numbered layer. "
                    "Give its name in Neuronpedia with --source MODEL/LAYER-SET."
                )
            name = make_slug(info.dictionary).lower()
            return cls(make_slug(file.record.model).lower(), f"{layer[1] if layer else 'e'}-{name}")
        model, _, source = given_name.partition("/")
        good = (
            make_slug(model) == model and make_slug(source) == source and LAYER_PREFIX.match(source)
        )
        if not model or not good or given_name != given_name.lower():
            raise InputError(
                f"{given_name!r} is not MODEL/LAYER-SET, for example gpt2-small/6-res-jb: small "
                "letters, digits, dots, dashes and underscores, and a layer's number (e for "
                "embeddings) before the first dash."
            )
        return cls(model, source)


def make_slug(name: str) -> str:
    """Return a name with only characters that a folder and a Neuronpedia URL can have."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")


@dataclass(frozen=True)
class DashboardExport:
    """Result of a Neuronpedia export: its folder and the numbers of rows written."""

    folder: Path
    features: int
    activations: int
    explanations: int


def export_dashboards(
    file: HarvestFile,
    dictionary: str,
    out: Path,
    *,
    explanations: Explanations | None = None,
    source: str | None = None,
    report_progress: Callable[[int, int], None] = lambda done, of: None,
) -> DashboardExport:
    """Write a dictionary's dashboards in Neuronpedia's layout under `out`;
    `report_progress` is called with the numbers of features done and in all.

    Raises InputError for an unknown dictionary and for a folder that is not empty.
    """
    info = file.dictionary(dictionary)
    named = NeuronpediaSource.for_dictionary(file, info, source)
    folder = out / named.model / named.id
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} exists and is not empty. Give --out another folder.")
    with draft_folder(folder) as draft:
        counts = write_dashboard_files(
            draft, DashboardWriter(file, info, named), explanations, report_progress
        )
    return DashboardExport(folder, **counts)


def write_dashboard_files(
    folder: Path,
    writer: "DashboardWriter",
    explanations: Explanations | None,
    report_progress: Callable[[int, int], None],
) -> dict[str, int]:
    """Write all files of a dictionary's Neuronpedia dashboards into a folder; return the number
    of rows of each kind."""
    info, named = writer.info, writer.source
    for part in ("features", "activations", "explanations"):
        (folder / part).mkdir()
    for name, row in writer.metadata_rows().items():
        write_json_lines(folder / f"{name}.jsonl", [format_json_line(row)])
    lines = format_explanation_lines(explanations, info.dictionary, named) if explanations else []
    counts = {"features": 0, "activations": 0}
    for number, first in enumerate(range(0, info.d_sae, FEATURES_PER_FILE)):
        name = f"batch-{number}.jsonl.gz"
        rows, contexts = writer.read_batch(first)
        counts["activations"] += write_json_lines(folder / "activations" / name, contexts)
        remove_empty_file(folder / "activations" / name)
        counts["features"] += write_json_lines(
            folder / "features" / name, map(format_json_line, rows)
        )
        report_progress(counts["features"], info.d_sae)
    for number, first in enumerate(range(0, len(lines), FEATURES_PER_FILE)):
        part = lines[first : first + FEATURES_PER_FILE]
        write_json_lines(folder / "explanations" / f"batch-{number}.jsonl.gz", part)
    return {**counts, "explanations": len(lines)}


def remove_empty_file(path: Path) -> None:
    """Remove a file without lines: Neuronpedia's importer parses the first line of every file
    before anything else and aborts the import if there is none."""
    with gzip.open(path) as file:
        if file.read(1):
            return
    path.unlink()


def format_json_line(row: Any) -> str:
    """Return a row as one line of JSON that Neuronpedia's importer accepts.

    Postgres refuses NUL, and the importer replaces every `\\u0000` in the file by a space, whether
    it is an escape or a backslash and letters: NUL becomes U+FFFD, and a backslash before `u0000`
    is escaped differently.
    """
    line = dump_json(make_storable_value(row), ascii_only=True)
    return line.replace("\\\\u0000", "\\u005cu0000")


def write_json_lines(path: Path, rows: Iterable[str]) -> int:
    """Write JSON lines to a file of a Neuronpedia export, compressed if its name ends in .gz;
    return their number.

    The same rows give the same bytes.
    """
    count = 0
    zipped = path.suffix == ".gz"
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", 4, raw, mtime=0) if zipped else nullcontext(raw) as out,
    ):
        for row in rows:
            out.write(row.encode("utf-8", errors="replace") + b"\n")
            count += 1
    return count


def format_explanation_lines(
    explanations: Explanations, dictionary: str, source: NeuronpediaSource
) -> list[str]:
    """Return a dictionary's explanations in force as JSON lines of a Neuronpedia export."""
    return [
        format_json_line(explanation_row(one, source))
        for one in explanations.of_dictionary(dictionary)
    ]


def explanation_row(one: Explanation, source: NeuronpediaSource) -> dict[str, Any]:
    """Return one explanation as a row in Neuronpedia's layout.

    `typeName` and `explanationModelName` are foreign keys in Neuronpedia's database, which refuses
    rows with unknown values: only explanations imported from Neuronpedia keep theirs.
    """
    theirs = one.source == "neuronpedia"
    return {
        "id": make_row_id(source.model, source.id, one.explanation),
        "modelId": source.model,
        "layer": source.id,
        "index": str(one.feature),
        "authorId": CREATOR_ID,
        "description": one.text,
        "typeName": (one.explainer or None) if theirs else None,
        "explanationModelName": (one.model or None) if theirs else None,
        "notes": ", ".join(filter(None, [one.explainer, one.model])) or None,
        SAEFARI_KEY: {"explainer": one.explainer, "model": one.model, "author": one.author},
    }


def round_values(values: list[float] | None) -> list[float]:
    """Round values to four decimals for a Neuronpedia export; None gives an empty list."""
    return [round(value, 4) for value in values or []]


def make_row_id(*about: object) -> str:
    """Return the 25-character id of a row in a Neuronpedia export: a hash of what the row is
    about."""
    return "c" + hashlib.blake2b("/".join(map(str, about)).encode(), digest_size=12).hexdigest()


class DashboardWriter:
    """Writer of one dictionary's features and contexts as rows in Neuronpedia's layout."""

    def __init__(self, file: HarvestFile, info: DictionaryInfo, source: NeuronpediaSource) -> None:
        self.file, self.info, self.source = file, info, source
        self.words = QuotedTokens(file.vocabulary)
        self.when = f"{file.record.finished:%Y-%m-%dT%H:%M:%S}.000Z"
        self.about: dict[str, Any] = {
            "modelId": source.model,
            "layer": source.id,
            "creatorId": CREATOR_ID,
        }

    def metadata_rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of the four small files that describe a Neuronpedia dump: release,
        model, sourceset and source."""
        record, source = self.file.record, self.source
        common = {"creatorId": CREATOR_ID, "createdAt": self.when}
        return {
            "release": {
                **common,
                "name": source.set_name,
                "description": self.info.dictionary,
                "creatorName": "",
                "visibility": "PUBLIC",
                "urls": [],
            },
            "model": {
                **common,
                "id": source.model,
                "instruct": False,
                "displayName": record.model,
                "displayNameShort": record.model,
                "visibility": "PUBLIC",
                "layers": 0,
                "neuronsPerLayer": 0,
                "owner": "",
                "updatedAt": self.when,
            },
            "sourceset": {
                **common,
                "modelId": source.model,
                "name": source.set_name,
                "creatorName": "",
                "description": f"{self.info.architecture} at {self.info.hook_name}",
                "type": "",
                "releaseName": source.set_name,
                "visibility": "PUBLIC",
                "urls": [],
            },
            "source": {
                **common,
                "id": source.id,
                "modelId": source.model,
                "setName": source.set_name,
                "visibility": "PUBLIC",
                "dataset": record.corpus,
                "num_prompts": record.sequences,
                "num_tokens_in_prompt": record.context_size,
                "notes": f"harvest {record.id}",
            },
        }

    def read_batch(self, first: int) -> tuple[list[dict[str, Any]], Iterator[str]]:
        """Return the rows of the features from `first` on, at most FEATURES_PER_FILE, and the
        JSON lines of their contexts."""
        query = (
            f"SELECT {FEATURE_COLUMNS} FROM feature WHERE dictionary = ? AND feature BETWEEN ? "
            f"AND ? "
            "ORDER BY feature"
        )
        found = self.file.rows(
            query, [self.info.dictionary, first, first + FEATURES_PER_FILE - 1]
        ).to_pylist()
        for row in found:
            row.update(
                {name: row["positive"][name] for name in SIGNED_COLUMNS} if row["positive"] else {}
            )
        return [self.feature_row(row) for row in found], self.context_lines(found)

    def feature_row(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return one feature as a row in Neuronpedia's layout."""
        heights, values = histogram_bars(row)
        text = self.file.vocabulary.text
        return {
            **self.about,
            **EMPTY_LISTS,
            "index": str(row["feature"]),
            "createdAt": self.when,
            "sourceSetName": self.source.set_name,
            "hookName": self.info.hook_name,
            "maxActApprox": row["max_act"] or 0.0,
            "frac_nonzero": row["density"] or 0.0,
            "hasVector": False,
            "vectorLabel": None,
            "topkCosSimIndices": row["nearest"] or [],
            "topkCosSimValues": round_values(row["nearest_cosine"]),
            "pos_str": [text(token) for token in row["promoted_tokens"] or []],
            "pos_values": round_values(row["promoted_values"]),
            "neg_str": [text(token) for token in row["suppressed_tokens"] or []],
            "neg_values": round_values(row["suppressed_values"]),
            "freq_hist_data_bar_heights": heights,
            "freq_hist_data_bar_values": values,
        }

    def context_lines(self, features: list[dict[str, Any]]) -> Iterator[str]:
        """Yield the JSON lines of features' contexts for a Neuronpedia export: for each feature
        top contexts, then range contexts."""
        live = [row for row in features if row["n_contexts"]]
        if not live:
            return
        bands = {row["feature"]: (row["max_act"], split_into_intervals(row)) for row in live}
        last = live[-1]["first_context"] + live[-1]["n_contexts"] - 1
        query = (
            f"SELECT {CONTEXT_COLUMNS} FROM context WHERE rowid BETWEEN ? AND ? AND value > 0 "
            "AND stratum <> 'bottom' ORDER BY rowid"
        )
        table = self.file.rows(query, [live[0]["first_context"], last])
        for part in table.to_batches(CONTEXTS_PER_CHUNK):
            for row in part.to_pylist():
                yield self.context_line(row, *bands[row["feature"]])

    def context_line(
        self, row: dict[str, Any], most: float, bands: list[ActivationInterval]
    ) -> str:
        """Return one context as a JSON line in Neuronpedia's layout: tokens and activations of
        its window."""
        start, length = row["start"], row["length"]
        values = ["0"] * length
        for position, act in zip(row["positions"], row["activations"], strict=True):
            values[position - start] = f"{act:.3f}"
        tokens = self.words.quoted(self.file.sequences.window(row["sequence"], start, length))
        top = row["stratum"] == "top"
        band = ActivationInterval(-1, most, -1) if top else find_interval(row["value"], most, bands)
        index = str(row["feature"])
        head = {
            "id": make_row_id(
                self.source.model, self.source.id, index, row["stratum"], row["rank"]
            ),
            **self.about,
            "index": index,
            "createdAt": self.when,
            "maxValue": round(row["value"], 3),
            "maxValueTokenIndex": row["peak"] - start,
            "minValue": round(min(0.0, *row["activations"]), 3),
            "binMin": band.low,
            "binMax": band.high,
            "binContains": band.share,
            "qualifyingTokenIndex": row["peak"] - start,
            "dataSource": self.file.record.corpus,
            "dfaValues": [],
            "lossValues": [],
        }
        lists = f'"tokens": [{", ".join(tokens)}], "values": [{", ".join(values)}]'
        return f"{format_json_line(head)[:-1]}, {lists}}}"


class QuotedTokens:
    """Tokens as JSON strings for a Neuronpedia export, each encoded once."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._display = vocabulary.display
        self._quoted: dict[str, str] = {}

    def quoted(self, ids: np.ndarray) -> list[str]:
        """Return the text of each token id as a JSON string for a Neuronpedia export."""
        return [self._quoted.get(text) or self._quote(text) for text in self._display(ids)]

    def _quote(self, text: str) -> str:
        return self._quoted.setdefault(text, format_json_line(text))
