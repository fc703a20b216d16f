"""What the pages share: the store, and the place in it that the URL names."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st

from feature_store.errors import InputError
from feature_store.harvest_reader import HarvestFile
from feature_store.permissions import are_pages_shared
from feature_store.private_paths import hide_paths, private_paths
from feature_store.records import DictionaryInfo, FeatureId
from feature_store.store import Store

STORE = "SAEFARI_STORE"
"""The environment variable that names the store to the pages."""
ADDRESS = re.compile(r"https?(?=\\:)|www(?=\\\.)|@", re.IGNORECASE)
"""Where Markdown, left to itself, sees an address, escaped or not, and makes a link of it."""
FILTERS = ("show", "filter", "label", "labelled", "starred", "only", "sort")
"""The URL's parameters that say which features, in which order (app/filters.py)."""
VIEW = ("page", "columns")
"""The URL's parameters of how the table of features shows them."""
LIBRARY, FEATURES, FEATURE = "views/library.py", "views/features.py", "views/feature.py"
PROMPT, SQL = "views/prompt.py", "views/sql.py"
SEARCH, CONTRAST = "views/search.py", "views/contrast.py"
COMPARE, DOCUMENT = "views/compare.py", "views/document.py"
MAP, JOBS = "views/map.py", "views/jobs.py"
LISTS = "views/lists.py"
STEER = "views/steer.py"
ABLATE = "views/ablate.py"
CIRCUITS = "views/circuits.py"
SHIFT, BEHAVIOURS = "views/shift.py", "views/behaviours.py"
EXPERIMENTS = "views/experiments.py"
SCORES = "views/scores.py"
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


def shown_store() -> Path:
    """Return the store's path as commands and scripts on the pages name it.

    Where other people can reach the pages it is the folder's name alone: where things lie on its
    owner's machine is not theirs to know.
    """
    path = store().path
    return Path(path.name) if are_pages_shared() else path


def shown_places() -> dict[str, str]:
    """Return content hash → folder of known weights, as scripts on the pages name them; empty
    where other people can reach the pages."""
    return {} if are_pages_shared() else store().places.read_all()


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
    return here, here.file.check_feature(FeatureId.parse(st.query_params["feature"]))


def follow(key: str) -> None:
    """Callback of a component with links between features: put the one clicked into the URL."""
    target = (st.session_state.get(key) or {}).get("go")
    if target:
        st.query_params["feature"] = target


def filters(here: Place) -> dict[str, str]:
    """FILTERS and VIEW as the URL has them, else as this visitor last had them, so that the way
    back from a feature leads to the same table. For the table and the feature page alone: other
    pages may mean something else by these names, see `kept`."""
    given = {name: st.query_params[name] for name in FILTERS + VIEW if name in st.query_params}
    return given or kept(here)


def kept(here: Place) -> dict[str, str]:
    """The filters that this visitor last had; numbers of features only in their own dictionary."""
    of, given = st.session_state.get("session_filters", ("", {}))
    same = of == here.info.dictionary
    return {name: text for name, text in given.items() if same or name not in ("only", "page")}


def remember(here: Place, given: Mapping[str, str]) -> None:
    """Keep filters for the way back."""
    st.session_state["session_filters"] = (here.info.dictionary, dict(given))


def put_filters(here: Place, given: Mapping[str, str]) -> None:
    """Put filters into the URL, in place of those there, and keep them for the way back."""
    remember(here, given)
    others = {k: v for k, v in st.query_params.to_dict().items() if k not in FILTERS + VIEW}
    st.query_params.from_dict({**others, **given})


def href(page: str, query: Mapping[str, str]) -> str:
    """A relative link to a page, to open in a new tab or to copy."""
    name = Path(page).stem
    return f"{'./' if page == LIBRARY else name}?{urlencode(query)}"


def without_paths(text: str) -> str:
    """Return a text as it is shown: where other people can reach the pages, without the folders
    of this machine that it names (of the store, the weights, the program)."""
    if not are_pages_shared() or "/" not in text and "\\" not in text:
        return text
    return hide_paths(text, _hidden(os.environ.get(STORE, "")))


@st.cache_resource(show_spinner=False, ttl=60)
def _hidden(path: str) -> list[str]:
    """The paths that visitors don't see; places of weights that are hub names are none."""
    try:
        places = [place.partition("@")[0] for place in store().places.read_all().values()]
    except InputError:
        places = []
    return private_paths(path, *(place for place in places if Path(place).is_absolute()))


def literal(text: str) -> str:
    """Text that Markdown leaves alone: nothing in it is markup, no address in it a link; and no
    path that visitors are not to see."""
    text = without_paths(text)
    plain = "".join(f"\\{c}" if c in "\\`*_{}[]()#+-.!|<>~$:&" else c for c in text)
    return ADDRESS.sub(r"\g<0>:small[]", plain)  # nothing at all, but the address is in two pieces
