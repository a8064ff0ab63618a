"""Texts that are the same or nearly so: groups that a split must not part, pairs that an audit shows.

How alike two texts are is the Jaccard index of their sets of character trigrams: what the sets share, over all that is in
them (Broder 1997, "On the resemblance and containment of documents"). Characters rather than words, because Chinese has no
spaces; of the text folded: NFKC, case, white space collapsed. MinHash signatures, cut into bands (Leskovec, Rajaraman and
Ullman, "Mining of Massive Datasets", chapter 3), name the pairs that may be alike. Each of these is then compared in full.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from nertune.errors import InputError

__all__ = ["Pair", "folded", "near_pairs", "similar_groups"]

Numbers: TypeAlias = NDArray[np.int64]

_PERMUTATIONS = 128
_SEED = 1  # of the permutations: a constant, so that what is alike depends on the texts alone
_FOUND = 0.999  # the least probability with which a pair at the threshold is found
_NEIGHBOURS = (
    32  # in a crowd of texts with one band in common, each is compared with so many in the order of signatures
)
_AT_ONCE = 1 << 22  # trigrams compared in one go: some 100 MB
_PART = 1 << 14  # trigrams of one text hashed in one go
_ODD = np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing: 2**64 over the golden ratio


class Pair(NamedTuple):
    """Two texts, by their places from 0, and their Jaccard index: 1.0 where they are equal when folded."""

    i: int
    j: int
    similarity: float


def similar_groups(texts: Sequence[str], *, threshold: float = 0.8) -> list[int]:
    """The number of each text's group; groups are numbered from 0 in the order of their first texts.

    Texts alike by `threshold` or more are in one group, and so are texts that a chain of such pairs links. The same texts
    give the same groups on every machine. A pair at the threshold is found with a probability of 0.999 or more, one
    further above it with more yet; none below it is taken for one. Time and memory grow with the texts' length in all,
    however many are alike.

    Raises InputError for a threshold that is not from 0.5 to 1.
    """
    places, distinct = _distinct(texts)
    joined: list[tuple[Numbers, Numbers]] = []
    groups = np.arange(len(distinct))
    search = _Search(distinct, threshold)
    for left, right in search.candidates():
        apart = groups[left] != groups[right]
        left, right, _ = search.alike(left[apart], right[apart])
        if len(left):
            joined.append((left, right))
            groups = _components(len(distinct), joined)
    numbers: dict[int, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups[places].tolist()]


def near_pairs(texts: Sequence[str], others: Sequence[str] | None = None, *, threshold: float = 0.8) -> list[Pair]:
    """For each text that is alike by `threshold` or more to an earlier one, the pair with the most alike of these.

    With `others`: for each text of theirs (j), the pair with the most alike in `texts` (i). In the order of j; of several
    i that are equally alike, the first. One pair a text at most, so that a thousand copies are a thousand lines.

    Raises InputError for a threshold that is not from 0.5 to 1.
    """
    places, distinct = _distinct([*texts, *(others or ())])
    seen, firsts = np.unique(places, return_index=True)
    here = np.zeros(len(distinct), dtype=bool)
    here[places[: len(texts)]] = True
    there = np.zeros(len(distinct), dtype=bool)
    there[places[len(texts) :]] = True
    nearest = np.where(here & there, seen, -1)
    how = np.where(here & there, 1.0, 0.0)
    search = _Search(distinct, threshold)
    for left, right in search.candidates():
        left, right, similarity = search.alike(left, right)
        if others is None:
            _keep_nearest(nearest, how, left, right, similarity)
            continue
        for i, j in ((left, right), (right, left)):
            across = here[i] & there[j]
            _keep_nearest(nearest, how, i[across], j[across], similarity[across])
    pairs = []
    for place, number in enumerate(places.tolist()):
        if others is None and place > firsts[number]:
            pairs.append(Pair(int(firsts[number]), place, 1.0))
        elif (others is None or place >= len(texts)) and nearest[number] >= 0:
            place -= 0 if others is None else len(texts)
            pairs.append(Pair(int(firsts[nearest[number]]), place, float(how[number])))
    return pairs


def _keep_nearest(
    nearest: Numbers, how: NDArray[np.float64], i: Numbers, j: Numbers, similarity: NDArray[np.float64]
) -> None:
    """Note for each j the most alike i, the first of several, where it is more so than the one noted before."""
    order = np.lexsort((i, -similarity, j))
    pick = order[np.unique(j[order], return_index=True)[1]]
    i, j, similarity = i[pick], j[pick], similarity[pick]
    better = (similarity > how[j]) | ((similarity == how[j]) & (i < nearest[j]))
    nearest[j[better]], how[j[better]] = i[better], similarity[better]


def folded(text: str) -> str:
    """The text as it is compared: NFKC, without case, each stretch of white space one space, none at the edges."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _distinct(texts: Sequence[str]) -> tuple[Numbers, list[str]]:
    """For each text the number of its folded form, and the folded forms in the order in which they first occur."""
    numbers: dict[str, int] = {}
    places = [numbers.setdefault(folded(text), len(numbers)) for text in texts]
    return np.array(places, dtype=np.int64), list(numbers)


def _components(count: int, joined: Sequence[tuple[Numbers, Numbers]]) -> Numbers:
    """The number of each node's connected component."""
    left = np.concatenate([pairs[0] for pairs in joined])
    right = np.concatenate([pairs[1] for pairs in joined])
    graph = sparse.coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(count, count))
    components: Numbers = connected_components(graph, directed=False)[1]
    return components


class _Search:
    """Distinct folded texts, each a row of trigrams; which pairs may be alike, and which are."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        if not 0.5 <= threshold <= 1:
            raise InputError(
                f"threshold: {threshold} is not a similarity from 0.5 to 1; texts less alike than a half are not near"
            )
        self._threshold = threshold
        rows = [_trigrams(text) for text in texts]
        self._sizes = np.array([len(row) for row in rows], dtype=np.int64)
        # Trigrams are the columns: 2**63 of them, which costs nothing in a sparse matrix.
        columns = np.concatenate(rows) if rows else np.empty(0, np.int64)
        self._rows = sparse.csr_array(
            (np.ones(len(columns), dtype=np.int8), columns, np.concatenate(([0], np.cumsum(self._sizes)))),
            shape=(len(rows), np.iinfo(np.int64).max),
        )

    def candidates(self) -> Iterator[tuple[Numbers, Numbers]]:
        """Pairs (left < right) that may be alike, band by band; one pair may come in several bands."""
        signatures = self._signatures()
        size = _band_size(self._threshold)
        for start in range(0, _PERMUTATIONS - size + 1, size):
            # Sorted by this band and, where it is equal, by the rest of the signature: in a crowd the like stand together.
            turned = np.roll(signatures, -start, axis=1)
            order = np.argsort(turned.astype(">u4").view(f"V{4 * _PERMUTATIONS}").ravel(), kind="stable")
            band = turned[order, :size]
            run = np.cumsum(np.any(band[1:] != band[:-1], axis=1))
            run = np.concatenate(([0], run))[: len(order)]
            for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
                places = np.flatnonzero(run[step:] == run[:-step])
                if not len(places):
                    break
                one, other = order[places], order[places + step]
                yield np.minimum(one, other), np.maximum(one, other)

    def alike(self, left: Numbers, right: Numbers) -> tuple[Numbers, Numbers, NDArray[np.float64]]:
        """Those of the pairs that are alike by the threshold, and how much."""
        sizes = self._sizes
        fits = np.minimum(sizes[left], sizes[right]) >= self._threshold * np.maximum(sizes[left], sizes[right]) - 1e-6
        left, right = left[fits], right[fits]
        total = sizes[left] + sizes[right]
        shared = np.zeros(len(left), dtype=np.int64)
        for part in np.split(np.arange(len(left)), np.flatnonzero(np.diff(np.cumsum(total) // _AT_ONCE)) + 1):
            common = self._rows[left[part]].multiply(self._rows[right[part]])
            shared[part] = np.diff(common.indptr)
        similarity = shared / np.maximum(total - shared, 1)
        near = similarity >= self._threshold
        return left[near], right[near], similarity[near]

    def _signatures(self) -> NDArray[np.uint32]:
        """A MinHash signature for each text."""
        from datasketch import MinHash

        hashes = (self._rows.indices.astype(np.uint64) * _ODD) >> np.uint64(32)
        signatures = np.empty((len(self._sizes), _PERMUTATIONS), dtype=np.uint32)
        sketch: Any = MinHash(num_perm=_PERMUTATIONS, seed=_SEED, hashfunc=int)
        bounds = self._rows.indptr.tolist()
        for number, (start, end) in enumerate(pairwise(bounds)):
            sketch.clear()
            for part in range(start, end, _PART):
                sketch.update_batch(hashes[part : min(part + _PART, end)].tolist())
            signatures[number] = sketch.hashvalues
        return signatures


def _trigrams(text: str) -> Numbers:
    """The set of a text's trigrams, sorted: three code points of 21 bits each in one number. A shorter text is one itself."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.int64)
    if len(codes) < 3:
        codes = np.concatenate((codes, np.zeros(3 - len(codes), dtype=np.int64)))
    return np.unique(codes[:-2] << 42 | codes[1:-1] << 21 | codes[2:])


def _band_size(threshold: float) -> int:
    """As many rows of a signature as a band may have, for a pair at the threshold to be found as surely as it must.

    A band of r rows is equal in both signatures with probability J**r; of 128 // r bands one has to be.
    """
    sizes = range(1, _PERMUTATIONS + 1)
    return max(size for size in sizes if 1 - (1 - threshold**size) ** (_PERMUTATIONS // size) >= _FOUND)
