"""Lists of features: last write wins, nothing is lost, undo takes any change back."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feature_store import feature_list_edits as edits
from feature_store.catalog import Catalog
from feature_store.errors import InputError
from feature_store.feature_lists import FeatureList
from feature_store.records import FeatureId

A, B, C = (FeatureId("resid", 3), FeatureId("a/b", 0), FeatureId("resid", 5))


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog.duckdb")


def now(catalog: Catalog, list_id: str) -> FeatureList:
    return catalog.snapshot().lists.get(list_id)


def state(catalog: Catalog, list_id: str) -> tuple:
    found = now(catalog, list_id)
    notes = [(entry.feature, entry.note) for entry in found.entries]
    return found.name, found.description, found.deleted, notes


def test_what_is_put_into_a_list_is_there_in_order(catalog: Catalog) -> None:
    one = edits.create_list(catalog, " <b>dogs</b>\n and cats ", "  why\n")
    assert edits.add_features(catalog, one, [A, B, A]) == 2
    assert edits.add_features(catalog, one, [B, C]) == 1
    edits.write_note(catalog, one, B, " first\nsecond ")
    want = [(A, ""), (B, "first\nsecond"), (C, "")]
    assert state(catalog, one) == ("<b>dogs</b> and cats", "why", False, want)
    lists = catalog.snapshot().lists
    assert [found.id for found in lists.containing(B)] == [one] and lists.containing(
        FeatureId("x", 1)
    ) == []


def test_entries_move_within_their_bounds(catalog: Catalog) -> None:
    one = edits.create_list(catalog, "dogs")
    edits.add_features(catalog, one, [A, B, C])
    edits.move_feature(catalog, one, C, -1)
    assert now(catalog, one).features == [A, C, B]
    edits.move_feature(catalog, one, A, -1)
    edits.move_feature(catalog, one, B, 1)
    edits.move_feature(catalog, one, FeatureId("x", 1), 1)
    assert now(catalog, one).features == [A, C, B]


CHANGES = {
    "add": lambda catalog, one: edits.add_features(catalog, one, [C, B]),
    "note": lambda catalog, one: edits.write_note(catalog, one, A, "new"),
    "move": lambda catalog, one: edits.move_feature(catalog, one, A, 1),
    "remove": lambda catalog, one: edits.remove_features(catalog, one, [A, B]),
    "rename": lambda catalog, one: edits.describe_list(catalog, one, name="cats"),
    "describe": lambda catalog, one: edits.describe_list(catalog, one, description="other"),
    "delete": lambda catalog, one: edits.delete_list(catalog, one),
}


@pytest.mark.parametrize("name", CHANGES)
def test_undo_takes_any_change_back_and_once_more_brings_it_again(
    catalog: Catalog, name: str
) -> None:
    one = edits.create_list(catalog, "dogs", "why")
    edits.add_features(catalog, one, [A, B])
    edits.write_note(catalog, one, A, "old")
    before = state(catalog, one)
    CHANGES[name](catalog, one)
    after = state(catalog, one)
    assert after != before
    edits.undo_change(catalog, one)
    assert state(catalog, one) == before
    edits.undo_change(catalog, one)
    assert state(catalog, one) == after


@settings(max_examples=4)
@given(names=st.lists(st.sampled_from(sorted(CHANGES)), max_size=5))
def test_history_only_grows(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    catalog = Catalog(tmp_path_factory.mktemp("lists") / "catalog.duckdb")
    one = edits.create_list(catalog, "dogs")
    edits.add_features(catalog, one, [A, B])
    past = catalog.snapshot().lists.history(one)
    for name in [*names, "undo"]:
        (edits.undo_change if name == "undo" else CHANGES[name])(catalog, one)
        new = catalog.snapshot().lists.history(one)
        assert new[: len(past)] == past
        past = new


def test_a_deleted_list_comes_back_whole(catalog: Catalog) -> None:
    one = edits.create_list(catalog, "dogs")
    edits.add_features(catalog, one, [A])
    edits.delete_list(catalog, one)
    lists = catalog.snapshot().lists
    assert lists.current == [] and [found.id for found in lists.deleted] == [one]
    assert lists.containing(A) == [] and now(catalog, one).features == [A]
    edits.delete_list(catalog, one, restore=True)
    assert [found.id for found in catalog.snapshot().lists.current] == [one]


def test_the_last_of_two_people_wins_and_both_are_kept(catalog: Catalog) -> None:
    other = Catalog(catalog.path)
    one = edits.create_list(catalog, "dogs")
    edits.add_features(catalog, one, [A])
    edits.write_note(catalog, one, A, "mine")
    edits.write_note(other, one, A, "yours")
    edits.describe_list(other, one, name="cats")
    edits.describe_list(catalog, one, description="both")
    assert state(catalog, one) == ("cats", "both", False, [(A, "yours")])
    said = [row.note for row in catalog.snapshot().lists.history(one) if hasattr(row, "note")]
    assert said == ["", "mine", "yours"]


def test_a_note_brings_back_what_somebody_removed_meanwhile(catalog: Catalog) -> None:
    one = edits.create_list(catalog, "dogs")
    edits.add_features(catalog, one, [A])
    edits.remove_features(Catalog(catalog.path), one, [A])
    edits.write_note(catalog, one, A, "kept")
    assert state(catalog, one)[3] == [(A, "kept")]


def test_what_cannot_be_says_what_would_work(catalog: Catalog) -> None:
    with pytest.raises(InputError, match=r"There is no list 'x' in this store\. There are none"):
        edits.add_features(catalog, "x", [A])
    with pytest.raises(InputError, match="A list needs a name"):
        edits.create_list(catalog, " \n")
    one = edits.create_list(catalog, "dogs")
    with pytest.raises(InputError, match=r"resid/3 is not in the list 'dogs'\. Add it first"):
        edits.write_note(catalog, one, A, "x")
    assert len(catalog.snapshot().lists.history(one)) == 1


def test_saying_the_same_again_changes_nothing(catalog: Catalog) -> None:
    one = edits.create_list(catalog, "dogs", "why")
    edits.add_features(catalog, one, [A])
    edits.write_note(catalog, one, A, "note")
    past = catalog.snapshot().lists.history(one)
    edits.add_features(catalog, one, [A])
    edits.write_note(catalog, one, A, "note ")
    edits.describe_list(catalog, one, name="dogs", description=" why")
    edits.delete_list(catalog, one, restore=True)
    assert catalog.snapshot().lists.history(one) == past
