"""What the pages share: the store, and the place in it that the URL names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
import streamlit as st

from feature_store.errors import InputError
from feature_store.reader import HarvestFile
from feature_store.records import DictionaryInfo, FeatureId
from feature_store.store import Store

STORE = "SAEFARI_STORE"
"""The environment variable that names the store to the pages."""
FILTERS = ("show", "low", "high", "max", "labelled", "starred")
"""The URL's parameters of the filters of the table of features."""
LIBRARY, FEATURES, FEATURE = "views/library.py", "views/features.py", "views/feature.py"
PROMPT, SQL = "views/prompt.py", "views/sql.py"
SEARCH = "views/search.py"
COMPARE, DOCUMENT = "views/compare.py", "views/document.py"
MAP, JOBS = "views/map.py", "views/jobs.py"
QUERY, WRITTEN = "sql", "session_sql"
"""The URL's parameter of the SQL page, and the key of what this visitor wrote there last."""


@dataclass(frozen=True)
class Place:
    """A dictionary of a harvest: what every page but the library is about."""

    file: HarvestFile
    info: DictionaryInfo

    @property
    def query(self) -> dict[str, str]:
        """The URL's parameters for this dictionary."""
        return {"harvest": self.file.record.id, "dictionary": self.info.dictionary}

    def at(self, index: int) -> dict[str, str]:
        """The URL's parameters for a feature of this dictionary."""
        return {"harvest": self.file.record.id, "feature": f"{self.info.dictionary}/{index}"}


def store() -> Store:
    """The store of this process. What the URL or the store makes impossible is an InputError,
    here and below; main.py shows its sentence in place of the page."""
    return _open(os.environ.get(STORE, ""))


@st.cache_resource(show_spinner=False)
def _open(path: str) -> Store:
    return Store(Path(path))


def place() -> Place:
    """The dictionary that the URL names; without one the first of the newest harvest."""
    query = st.query_params
    name = query.get("dictionary")
    if "feature" in query:
        name = FeatureId.parse(query["feature"]).dictionary
    file = store().harvest(query.get("harvest"), name)
    if not file.dictionaries:
        raise InputError(f"Harvest {file.record.id} has no dictionary. Choose another harvest.")
    return Place(file, file.dictionary(name or next(iter(file.dictionaries))))


def feature() -> tuple[Place, FeatureId]:
    """The feature that the URL names; without one the page goes to the table of features."""
    here = place()
    if "feature" not in st.query_params:
        st.switch_page(FEATURES, query_params=here.query)
    return here, here.file.check(FeatureId.parse(st.query_params["feature"]))


@st.cache_resource(show_spinner=False, max_entries=64)
def firing(_file: HarvestFile, harvest_id: str, dictionary: str) -> np.ndarray:
    """The indices of the features that fire at all, for random steps."""
    table = _file.feature_table(dictionary, between={"n_active": (1, float("inf"))})
    return table.column("feature").to_numpy()


def follow(key: str) -> None:
    """Callback of a component with links between features: put the one clicked into the URL."""
    target = (st.session_state.get(key) or {}).get("go")
    if target:
        st.query_params["feature"] = target


def filters() -> dict[str, str]:
    """The filters of the table of features, as the URL writes them: the URL's own, else those that
    this visitor last set, so that the way back from a feature leads to the same table."""
    query = {name: st.query_params[name] for name in FILTERS if name in st.query_params}
    return query or st.session_state.get("session_filters", {})


def keep_filters(given: Mapping[str, str]) -> None:
    """Put filters into the URL, in place of those there, and keep them for the way back."""
    st.session_state["session_filters"] = dict(given)
    others = {k: v for k, v in st.query_params.to_dict().items() if k not in FILTERS}
    st.query_params.from_dict({**others, **given})


def href(page: str, query: Mapping[str, str]) -> str:
    """A relative link to a page, to open in a new tab or to copy."""
    name = Path(page).stem
    return f"{'./' if page == LIBRARY else name}?{urlencode(query)}"


def literal(text: str) -> str:
    """Text that Markdown leaves alone."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|<>~$:&" else c for c in text)
