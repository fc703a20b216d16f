"""MinHash: a short sketch of a text such that similar texts have similar sketches.

The share of equal entries of two sketches estimates the Jaccard similarity of the texts' sets of
5-word shingles (Broder 1997). Hashes use arithmetic modulo 2^64 written here, so they are the same
on every machine and in every process.
"""

import hashlib
import re
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt32, UInt64

SHINGLE_WORDS = 5
"""Words per shingle of a text."""
ROWS, BANDS = 3, 21
"""Number of bands of a MinHash sketch. Two texts are compared when all ROWS of one band agree: at
similarity s this happens with probability 1 - (1 - s^3)^21, which is 1 - 5e-8 at s = 0.82 (one word
in 50 changed)."""
SKETCH_HASHES = ROWS * BANDS
POWER_TABLE_BYTES = 2**15
"""Bytes of a text up to which powers come from a precomputed table."""
SHINGLES_PER_CHUNK = 1024
"""Shingles hashed at a time, which bounds memory for long texts (0.5 MB)."""

_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff])"
)
"""Characters of scripts written without spaces (Thai to Khmer, kana, Han): each is treated as a
word."""
_NOT_WORD = re.compile(r"[\W_]+")
_BASE = 0x9E3779B97F4A7C15
_BASE_INVERSE = pow(_BASE, -1, 2**64)


def normalise_text(text: str) -> str:
    """Normalise a text for its MinHash sketch: casefolded words joined by single spaces, without
    punctuation. Text that is only punctuation is kept, with its white space collapsed."""
    folded = text.casefold()
    if not folded.isascii():
        folded = _UNSPACED.sub(r" \1 ", folded)
    return _NOT_WORD.sub(" ", folded).strip() or " ".join(text.split())


def content_hash(*parts: str) -> int:
    """Return a 64-bit hash (BLAKE2b) of the parts of a text, by which identical texts are found;
    the borders of the parts count."""
    data = "\0".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def mix_uint64(x: UInt64[np.ndarray, "*n"]) -> UInt64[np.ndarray, "*n"]:
    """Hash 64-bit numbers by a bijection in which every output bit depends on every input bit: the
    finaliser of SplitMix64 (Steele, Lea, Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def minhash_sketch(normal: str) -> UInt32[np.ndarray, "hashes"]:
    """Return the MinHash sketch of a normalised text: `SKETCH_HASHES` numbers."""
    shingles = _hash_shingles(_hash_words(normal.encode("utf-8", "surrogatepass")))
    smallest = np.full(SKETCH_HASHES, 2**32 - 1, np.uint64)
    for start in range(0, len(shingles), SHINGLES_PER_CHUNK):
        chunk = shingles[start : start + SHINGLES_PER_CHUNK]
        # Multiply-shift hashing: each (factor, shift) pair is one hash function.
        hashes = (_FACTORS[:, None] * chunk[None, :] + _SHIFTS[:, None]) >> np.uint64(32)
        np.minimum(smallest, hashes.min(axis=1), out=smallest)
    return smallest.astype(np.uint32)


def _hash_words(data: bytes) -> UInt64[np.ndarray, "words"]:
    """Return one hash per space-separated word of a text.

    With prefix sums of byte · base^position, a word's polynomial is a difference of two sums;
    multiplied by base^-start it no longer depends on the word's position.
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
    """Return one hash per shingle of `SHINGLE_WORDS` consecutive words; a shorter text is one
    shingle."""
    width = min(SHINGLE_WORDS, len(words))
    count = len(words) - width + 1
    total = np.zeros(count, np.uint64)
    for offset, factor in enumerate(_powers(_BASE, width)):
        total += words[offset : offset + count] * factor
    return mix_uint64(total)


def _powers(base: int, count: int) -> UInt64[np.ndarray, "count"]:
    """Return base^0, base^1, … modulo 2^64 for the hashes of words and shingles, from a table for
    texts of usual length."""
    return (
        _power_table(base)[:count] if count <= POWER_TABLE_BYTES else _computed_powers(base, count)
    )


@lru_cache
def _power_table(base: int) -> UInt64[np.ndarray, "usual"]:
    """Return the precomputed powers of a hash base, for texts of usual length."""
    return _computed_powers(base, POWER_TABLE_BYTES)


def _computed_powers(base: int, count: int) -> UInt64[np.ndarray, "count"]:
    """Compute the first `count` powers of a hash base modulo 2^64."""
    steps = np.full(count, base, np.uint64)
    steps[:1] = 1
    return np.cumprod(steps, dtype=np.uint64)


def _hash_constants(start: int, count: int) -> UInt64[np.ndarray, "count"]:
    """Return pseudorandom 64-bit constants for the hash functions of the MinHash sketch."""
    return mix_uint64(np.arange(start, start + count, dtype=np.uint64) * np.uint64(_BASE))


_FACTORS = _hash_constants(1, SKETCH_HASHES) | np.uint64(1)
_SHIFTS = _hash_constants(1 + SKETCH_HASHES, SKETCH_HASHES)


def estimate_similarity(
    sketches: UInt32[np.ndarray, "n hashes"],
    left: Int[np.ndarray, "pairs"],
    right: Int[np.ndarray, "pairs"],
) -> Float[np.ndarray, "pairs"]:
    """Return the estimated Jaccard similarity, 0 to 1, of each pair of texts (left[i], right[i])
    from their MinHash sketches; standard error at most 0.063."""
    return (sketches[left] == sketches[right]).mean(axis=1)
