"""Search by words and by tokens: what is found, in which order, and what is not."""

from pathlib import Path

import duckdb
import pytest

from feature_store.feature_summaries import read_feature_facts
from feature_store.harvest_reader import HarvestFile
from feature_store.token_search import TokenIndex, parse_token_query
from feature_store.word_index import WordIndex, split_words
from tests.stores import DEAD, make_store

TEXTS = ["walking in the park", "parking a car", "the end of a story", "Café noir", "ends"]


@pytest.fixture(scope="module")
def words() -> WordIndex:
    return WordIndex(TEXTS)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> HarvestFile:
    return make_store(tmp_path_factory.mktemp("search") / "store").harvest()


@pytest.fixture(scope="module")
def index(file: HarvestFile) -> TokenIndex:
    return TokenIndex(file)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("park", [0, 1]),  # the word itself before a longer one
        ("PARK walking", [0, 1]),
        ("wlaking", [0]),  # two letters exchanged
        ("walkingg", [0]),
        ("end", [2, 4]),
        ("cafe", [3]),  # without the accent
        ("arkin", [1]),  # inside a word
        ("zzz", []),
        ("", []),
        ("?!", []),
        ("'; DROP TABLE words; --", []),
    ],
)
def test_words_find_texts(words: WordIndex, query: str, found: list[int]) -> None:
    assert [number for number, _ in words.find(query)] == found


def test_scores_fall_from_exact_over_beginning_to_typing_error() -> None:
    words = WordIndex(["parx", "parkland", "park", "ballpark"])
    found = words.find("park")
    assert [number for number, _ in found] == [2, 1, 0, 3]
    scores = [score for _, score in found]
    assert scores[0] == 1 and scores == sorted(scores, reverse=True) and scores[-1] > 0


def test_a_rare_word_weighs_more_than_a_frequent_one() -> None:
    words = WordIndex(["the cat"] + ["the rest"] * 50)
    assert words.find("the cat")[0][0] == 0
    scores = dict(words.find("the cat"))
    assert scores[1] < 0.3


def test_an_index_of_nothing_finds_nothing() -> None:
    assert WordIndex([]).find("park") == []


def test_split_forgets_case_and_accents() -> None:
    assert split_words("Größe, ÉTÉ-end 東京!") == ["grosse", "ete", "end", "東京"]


@pytest.mark.parametrize(
    ("query", "texts", "how"),
    [
        ("dog", [" dog"], "as a word"),
        (" DOG ", [" dog"], "as a word"),
        ('" dog"', [" dog"], "exactly"),
        ('"dog"', [], "exactly"),
        ("↵", ["\n"], "as a word"),
        ("\\n", ["\n"], "as a word"),
        ("cat dog", [" dog", " cat"], "as a word"),
        ("<scr", [" <script>alert(1)</script>"], "beginning so"),
        ("elephant", [], "none"),
        ("", [], "none"),
    ],
)
def test_a_query_means_tokens(file: HarvestFile, query: str, texts: list[str], how: str) -> None:
    wanted = parse_token_query(query, file.vocabulary)
    assert [file.vocabulary.text(i) for i in wanted.ids] == texts
    assert wanted.how == how


def test_peaks_are_those_of_the_contexts(file: HarvestFile, index: TokenIndex) -> None:
    """Counted again by reading every feature's contexts: nothing missed, nothing invented."""
    found = {m.feature: m for m in index.find([3], ["resid"], "fires")}
    for number in range(file.dictionary("resid").d_sae):
        strong = [c for c in contexts(file, "resid", number) if c.stratum != "range"]
        peaks = [c for c in strong if file.sequences.tokens(c.sequence)[c.peak] == 3]
        match = found.get(number)
        assert (match.peaks if match else 0) == len(peaks)
        assert match is None or match.strong == len(strong)


def contexts(file: HarvestFile, dictionary: str, number: int) -> list:
    from feature_store.records import FeatureId

    return file.contexts(FeatureId(dictionary, number))


def test_matches_say_why_and_stand_in_order(index: TokenIndex) -> None:
    both = index.find([2], ["resid", "abs"])
    assert {m.dictionary for m in both} == {"resid", "abs"} and len(both) == 80
    first, dead = both[0], next(m for m in both if m.feature == DEAD)
    assert (first.top_token, first.share, first.promoted, first.rank) == (2, 0.35, 2, 1)
    assert (dead.top_token, dead.peaks, dead.strong, dead.rank) == (None, 0, 0, 1)
    assert [m.rank for m in index.find([8, 3], ["abs"], "promotes")][:2] == [2, 2]
    assert index.find([5], ["resid"], "promotes") == []


def test_limits_and_nothing_asked(index: TokenIndex) -> None:
    assert len(index.find([2], ["resid"], limit=3)) == 3
    assert index.find([], ["resid"]) == [] and index.find([2], []) == []
    assert index.find([2], ["nowhere"]) == []


def test_facts_of_a_list_of_features(file: HarvestFile) -> None:
    facts = read_feature_facts(file, [("resid", 3), ("abs", DEAD), ("gone", 1)])
    assert set(facts) == {("resid", 3), ("abs", DEAD)}
    assert facts["abs", DEAD]["max_act"] is None and read_feature_facts(file, []) == {}


def changed(file: HarvestFile, path: Path, statement: str) -> TokenIndex:
    """The index of a copy of the harvest with other facts."""
    path.write_bytes(file.path.read_bytes())
    with duckdb.connect(str(path)) as db:
        db.execute(statement)
    return TokenIndex(HarvestFile(path))


def test_the_order_is_by_rank_or_by_how_much_it_fires(tmp_path: Path, file: HarvestFile) -> None:
    """What promotes the token most comes first; a share of many samples before one of a single."""
    index = changed(
        file,
        tmp_path / "other.duckdb",
        "UPDATE feature SET promoted_tokens = [3, 2] WHERE feature = 30;"
        "UPDATE feature SET top_token = 9, top_token_share = 1, top_token_n = 1 WHERE feature = 1;"
        "UPDATE feature SET top_token = 9, top_token_share = 0.9, top_token_n = 99 "
        "WHERE feature = 20",
    )
    promoting = index.find([3], ["resid"], "promotes")
    assert (promoting[0].feature, promoting[0].rank) == (30, 1)
    assert {match.rank for match in promoting[1:]} == {2}
    assert index.find([9], ["resid"], "fires")[0].feature == 20


def test_a_harvest_without_contexts(tmp_path: Path, file: HarvestFile) -> None:
    """A dictionary of dead features alone: an index of nothing."""
    statement = "DELETE FROM context; UPDATE feature SET n_contexts = 0, top_token = NULL"
    index = changed(file, tmp_path / "dead.duckdb", statement)
    assert index.find([2], ["resid"], "fires") == []
