"""Any text that a language model sends can be stored, and what cannot be stored fails alone."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autointerp.llm.reply_parser import UnreadableReply, parse_reply_value
from autointerp.pipeline.progress_log import ProgressLog
from autointerp.pipeline.resumable_run import FeatureOutcome, run_resumable
from feature_store.storable_text import make_storable
from tests.asking import one, question
from tests.openai_server import always, serve

SENTENCE = {
    "type": "object",
    "properties": {"explanation": {"type": "string", "minLength": 1}},
    "required": ["explanation"],
    "additionalProperties": False,
}
ODD = st.text(st.characters(codec=None, exclude_categories=())) | st.sampled_from(
    ["\ud83d", "\udc00\ud800", "a\x00b", "\ufffe", "\u2028", "x" * 60_000]
)


@given(ODD, st.booleans())
def test_every_text_of_a_reply_can_be_stored(text: str, escaped: bool) -> None:
    """Whether the odd characters stand in the reply as escapes or as they are."""
    reply = json.dumps({"explanation": text}, ensure_ascii=escaped)
    try:
        found = parse_reply_value(reply, SENTENCE)["explanation"]
    except UnreadableReply:
        assert not text.strip()
        return
    assert found.encode("utf-8") and "\0" not in found
    assert duckdb.execute("SELECT ?", [found]).fetchall() == [(found,)]
    assert found == make_storable(text)


def test_a_lone_surrogate_in_a_reply_is_stored_and_read_again(tmp_path: Path) -> None:
    """It used to come out of the record as it was, so that every resumed job failed alike."""
    wanted = question(schema=SENTENCE)
    with serve(always(r'{"explanation": "cats \ud83d and dogs"}')) as running:
        fresh, kept = (one(running.base_url, tmp_path / "a.duckdb", wanted) for _ in range(2))
    assert kept.cached and running.calls == 1
    assert fresh.parsed == kept.parsed == {"explanation": "cats \ufffd and dogs"}


class Tally:
    """Entries by feature."""

    def __init__(self) -> None:
        self.entries: dict[int, dict] = {}

    def add(self, entry) -> None:
        self.entries[entry["feature"]] = dict(entry)


@pytest.mark.parametrize(
    "error",
    [
        UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed"),
        duckdb.InvalidInputException("cannot encode"),
        ValueError("Out of range float values are not JSON compliant"),
    ],
)
def test_a_record_that_the_store_refuses_fails_alone(error: Exception, tmp_path: Path) -> None:
    stored: list[str] = []

    def keep(rows: Sequence[str]) -> None:
        if "bad" in rows:
            raise error
        stored.extend(rows)

    def draw(done, had) -> Iterator[int]:
        return iter(i for i in range(6) if i not in done)

    async def work(i: int) -> FeatureOutcome[str]:
        text = "bad" if i == 3 else f"text {i}"
        return FeatureOutcome({"feature": i, "explained": {"top": ""}}, (text,))

    tally, ledger = Tally(), ProgressLog(tmp_path)
    asyncio.run(run_resumable(draw, work, keep, tally, ledger, lambda n: None, 2, None))  # type: ignore[arg-type]
    assert sorted(stored) == [f"text {i}" for i in (0, 1, 2, 4, 5)]
    assert tally.entries[3]["explained"] == {"top": "unstorable"} and ledger.failed() == [3]
