"""MinHash: a short sketch of a text, such that like texts have like sketches.

The share of equal entries of two sketches estimates the Jaccard similarity of the texts' sets of
5-word shingles (Broder 1997). Hashes are our own arithmetic modulo 2^64: the same on every
machine and in every process, and the same text always gives the same sketch.
"""

import hashlib
import re
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt32, UInt64

SHINGLE_WORDS = 5
"""Words per shingle."""
ROWS, BANDS = 3, 21
"""Two texts are compared when all rows of one band agree: at similarity s this happens with
probability 1 - (1 - s^3)^21, which is 1 - 5e-8 at s = 0.82 (one word in 50 changed)."""
SKETCH_HASHES = ROWS * BANDS
POWER_TABLE_BYTES = 2**15
"""Bytes of a text up to which powers come from a table."""
SHINGLES_PER_CHUNK = 1024
"""Shingles hashed at a time, which bounds memory for long texts (0.5 MB)."""

_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])"
)
"""Scripts written without spaces (Thai to Khmer, kana, Han): each character is a word."""
_NOT_WORD = re.compile(r"[\W_]+")
_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 2**64)


def normalise_text(text: str) -> str:
    """Casefolded words joined by single spaces, without punctuation.

    A text of punctuation alone is kept, with its white space collapsed.
    """
    folded = text.casefold()
    if not folded.isascii():
        folded = _UNSPACED.sub(r" \1 ", folded)
    return _NOT_WORD.sub(" ", folded).strip() or " ".join(text.split())


def content_hash(*parts: str) -> int:
    """64 bits of BLAKE2b over the parts; the parts' borders count."""
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def mix_uint64(x: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """A bijection of 64-bit numbers whose every output bit depends on every input bit.

    The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
    """
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def minhash_sketch(normal: str) -> UInt32[np.ndarray, "hashes"]:
    """The MinHash sketch of an already normalised text: `SKETCH` numbers."""
    shingles = _hash_shingles(_hash_words(normal.encode("utf-8", "surrogatepass")))
    smallest = np.full(SKETCH_HASHES, 2**32 - 1, np.uint64)
    for start in range(0, len(shingles), SHINGLES_PER_CHUNK):
        some = shingles[start : start + SHINGLES_PER_CHUNK]
        hashes = (_FACTORS[:, None] * some[None, :] + _SHIFTS[:, None]) >> np.uint64(32)
        np.minimum(smallest, hashes.min(axis=1), out=smallest)
    return smallest.astype(np.uint32)


def _hash_words(data: bytes) -> UInt64[np.ndarray, "words"]:
    """One hash per space-separated word.

    With prefix sums of byte * base^position, a word's polynomial is a difference, and times
    base^-start it no longer depends on where the word stands.
    """
    letters = np.frombuffer(data, np.uint8)
    sums = np.zeros(len(letters) + 1, np.uint64)
    np.cumsum((letters.astype(np.uint64) + 1) * _powers(_BASE, len(letters)), out=sums[1:])
    spaces = np.flatnonzero(letters == ord(" "))
    starts = np.concatenate([[0], spaces + 1])
    ends = np.concatenate([spaces, [len(letters)]])
    shift_back = _powers(_BASE_INVERSE, len(letters) + 1)
    return mix_uint64((sums[ends] - sums[starts]) * shift_back[starts])


def _hash_shingles(words: UInt64[np.ndarray, "words"]) -> UInt64[np.ndarray, "shingles"]:
    """One hash per run of `SHINGLE` words; a shorter text is one shingle."""
    width = min(SHINGLE_WORDS, len(words))
    count = len(words) - width + 1
    total = np.zeros(count, np.uint64)
    for offset, factor in enumerate(_powers(_BASE, width)):
        total += words[offset : offset + count] * factor
    return mix_uint64(total)


def _powers(base: int, count: int) -> UInt64[np.ndarray, "count"]:
    """base^0, base^1, … modulo 2^64; kept for texts of usual length."""
    return (
        _power_table(base)[:count] if count <= POWER_TABLE_BYTES else _computed_powers(base, count)
    )


@lru_cache
def _power_table(base: int) -> UInt64[np.ndarray, "usual"]:
    return _computed_powers(base, POWER_TABLE_BYTES)


def _computed_powers(base: int, count: int) -> UInt64[np.ndarray, "count"]:
    steps = np.full(count, base, np.uint64)
    steps[:1] = 1
    return np.cumprod(steps, dtype=np.uint64)


def _hash_constants(start: int, count: int) -> UInt64[np.ndarray, "count"]:
    return mix_uint64(np.arange(start, start + count, dtype=np.uint64) * np.uint64(_BASE))


_FACTORS = _hash_constants(1, SKETCH_HASHES) | np.uint64(1)
_SHIFTS = _hash_constants(1 + SKETCH_HASHES, SKETCH_HASHES)


def estimate_similarity(
    sketches: UInt32[np.ndarray, "n hashes"],
    left: Int[np.ndarray, "pairs"],
    right: Int[np.ndarray, "pairs"],
) -> Float[np.ndarray, "pairs"]:
    """Estimated similarity, 0 to 1, of each pair (left[i], right[i]); standard error <= 0.063."""
    return (sketches[left] == sketches[right]).mean(axis=1)
