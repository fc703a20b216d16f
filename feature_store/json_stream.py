"""JSON stream: read a large JSON object entry by entry, so that memory holds one part and not the
file.

A graph of ten million links is a gigabyte of JSON. Its file is one object: the long lists are given
in batches, all other values whole.
"""

import codecs
from collections.abc import Iterator, Set
from typing import IO, Any

from feature_store.strict_json import FAST_DECODER, STRICT_DECODER, JsonError, ValueReader

CHUNK = 1 << 20
"""Bytes of the JSON stream that are read at once."""
SPACE = " \t\n\r"


class JsonObjectStream:
    """Reader of a large JSON object from a stream, one entry at a time, in the order of the
    file."""

    def __init__(self, source: IO[bytes], what: str, batched: Set[str]) -> None:
        """Start reading a JSON stream. `what` begins every error message; lists under the keys
        `batched` are given in batches.

        Within batches, keys that occur twice in one object are not noticed and numbers may overflow
        to infinity: the caller checks the values that it uses.
        """
        self._source, self._what, self._batched = source, what, batched
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False

    def entries(self) -> Iterator[tuple[str, Any]]:
        """Yield the entries of the JSON stream as (key, value); for a batched key the value is an
        iterator of lists.

        The rest of an iterator is skipped when the next entry is read. Raises JsonError for
        anything but one JSON object and for a key that occurs twice.
        """
        if self._peek() != "{":
            raise self._error("it is not a JSON object")
        self._at += 1
        seen: set[str] = set()
        while self._peek() != "}":
            if seen:
                self._take(",")
            key = self._value(STRICT_DECODER)
            if not isinstance(key, str) or key in seen:
                raise self._error(f"the key {key!r} occurs twice or is not a text")
            seen.add(key)
            self._take(":")
            if key in self._batched and self._peek() == "[":
                batches = self._batches()
                yield key, batches
                for _ in batches:
                    pass
            else:
                yield key, self._value(STRICT_DECODER)
        self._at += 1
        if self._peek():
            raise self._error("something follows the object")

    def _batches(self) -> Iterator[list[Any]]:
        """Yield the items of a JSON list in batches, up to and including its end."""
        self._take("[")
        one_by_one, patience, first = 0, 1, True
        while self._peek() != "]":
            if not first:
                self._take(",")
                self._peek()
            first = False
            many = None if one_by_one else self._many()
            if many is not None:
                patience = 1
                yield many
                continue
            if not one_by_one:  # each failure costs a part's time: try again ever more rarely
                patience = min(2 * patience, 4096)
                one_by_one = patience
            one_by_one -= 1
            yield [self._value(FAST_DECODER)]
        self._at += 1

    def _many(self) -> list[Any] | None:
        """Parse all items of a JSON list that are completely in the buffer; return None if that
        fails.

        The buffer is cut at the last object that ends before the list may end. If that is inside a
        string or an inner object, parsing fails and the items are read one by one.
        """
        end = self._text.find("]", self._at)
        cut = self._text.rfind("},", self._at, end if end >= 0 else len(self._text))
        if cut < 0:
            return None
        try:
            found = FAST_DECODER.decode(f"[{self._text[self._at : cut + 1]}]")
        except (ValueError, RecursionError):
            return None
        self._at = cut + 1
        return found

    def _value(self, decoder: ValueReader) -> Any:
        """Parse the JSON value that begins here, reading from the stream until it is complete."""
        self._peek()
        while True:
            try:
                value, end = decoder.raw_decode(self._text, self._at)
            except (ValueError, RecursionError) as bad:
                if not self._fill():
                    reason = "it is nested too deeply" if isinstance(bad, RecursionError) else bad
                    raise self._error(getattr(reason, "msg", str(reason))) from bad
                continue
            goes_on = end == len(self._text) or self._text[end] in "0123456789.eE+-"
            if not goes_on or not self._fill():  # only a number can go on
                self._at = end
                return value

    def _take(self, wanted: str) -> None:
        if self._peek() != wanted:
            raise self._error(f"{wanted!r} is expected, not {self._peek()!r}")
        self._at += 1

    def _peek(self) -> str:
        """Return the next character of the JSON stream that is not white space, without
        consuming it; empty at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in SPACE:
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._fill():
                return ""

    def _fill(self) -> bool:
        """Read the next chunk of the JSON stream into the buffer and drop what was parsed;
        return False at the end of the file."""
        if self._ended:
            return False
        data = self._source.read(max(CHUNK, len(self._text) - self._at))
        self._ended = not data
        try:
            fresh = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as bad:
            raise self._error("it is not UTF-8") from bad
        self._text = self._text[self._at :] + fresh
        self._at = 0
        return True

    def _error(self, reason: str) -> JsonError:
        return JsonError(self._what, reason)
