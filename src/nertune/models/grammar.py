"""Grammars on token ids: which tokens may come next so that the answer stays in its language.

llguidance does the work (https://github.com/guidance-ai/llguidance): a grammar over bytes, compiled in milliseconds, and
the tokens that it allows at a place, found in the vocabulary's trie in a tenth of a millisecond. Added here: an answer
ends at any of the request's stop tokens, and only where the grammar accepts; and where but one continuation is possible,
only its canonical tokens are, because a model is trained on no others. Generation goes by it, and so does a training that
leaves out what generation will not ask the model.

Few allowed tokens are listed; where the grammar is wide (any text, the inside of a JSON string), they are a mask over the
vocabulary, because a list of 200,000 tokens takes longer to make and to use than the whole output layer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, TypeAlias, TypeGuard, cast
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from nertune.errors import InputError

__all__ = ["Allowed", "Constraint", "Followed", "Ids", "Mask", "Vocabulary", "ids_of", "is_mask"]

Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Allowed: TypeAlias = Ids | Mask
"""The tokens that may come next: their ids, ascending, or a mask of the whole vocabulary, (V,)."""

# The rows of so large a share of the output layer, copied and multiplied, take about as long as the whole layer.
_WIDE = 0.25
# Tokens that llguidance keeps ready as one piece of a mask. Where a grammar takes them all, as inside a JSON string, the mask
# is there in a tenth of the time. Nertune's own grammars are narrow and gain nothing.
_SLICES = [r'[^"\\\x00-\x1F\x7F]{1,30}']


def is_mask(allowed: Allowed) -> TypeGuard[Mask]:
    """Whether the tokens are told as a mask."""
    return allowed.dtype == np.bool_


def ids_of(allowed: Allowed) -> Ids:
    """The tokens as ids, ascending."""
    return np.flatnonzero(allowed) if is_mask(allowed) else cast("Ids", allowed)


# A tokenizer's table takes seconds to make: one for each tokenizer in use, and one with slices for grammars of others.
_tables: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_sliced: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


class Vocabulary:
    """A tokenizer's tokens as bytes, and grammars over them.

    `size`: columns of the model's output layer. `wide`: the share of them above which allowed tokens are told as a mask.
    """

    def __init__(self, tokenizer: Any, size: int, *, wide: float = _WIDE) -> None:
        self._tokenizer = tokenizer
        self._size = size
        self._most_ids = int(wide * size)

    @property
    def _table(self) -> Any:
        if self._tokenizer not in _tables:
            import llguidance.hf

            try:
                table = llguidance.hf.from_tokenizer(
                    self._tokenizer, n_vocab=max(self._size, len(self._tokenizer)), slices=[]
                )
            except (ValueError, TypeError) as error:
                raise InputError(
                    f"the model's tokenizer cannot be used with a grammar ({error}); generate without one: "
                    "--unconstrained, and train with training.loss_tokens: answer"
                ) from error
            _tables[self._tokenizer] = table
        return _tables[self._tokenizer]

    @property
    def _sliced_table(self) -> Any:
        if self._tokenizer not in _sliced:
            _sliced[self._tokenizer] = self._table.with_slices(_SLICES)
        return _sliced[self._tokenizer]

    def prepare(self, *, foreign: bool = False) -> None:
        """Make the tokenizer's table now, for grammars of others too if `foreign`.

        Raises InputError for a tokenizer that it cannot be made of.
        """
        _ = self._sliced_table if foreign else self._table

    def constraint(self, grammar: str, stop_ids: Iterable[int], *, foreign: bool = False) -> Constraint:
        """A constraint at its start. Raises InputError for a grammar that llguidance refuses.

        `foreign`: the grammar is of somebody else's making, and llguidance's own limits keep it from taking long. The
        grammar of a long text would go beyond them, so those of nertune's own grow with their length.
        """
        import llguidance

        table = self._sliced_table if foreign else self._table
        matcher = llguidance.LLMatcher(table, grammar, log_level=0, limits=_limits(0 if foreign else len(grammar)))
        if matcher.is_error():
            raise InputError(f"the grammar of the answer cannot be used: {_reason(matcher)}")
        ends = np.array(sorted(stop_ids), dtype=np.int64)
        own_ends = np.array(self._table.eos_tokens, dtype=np.int64)
        return Constraint(matcher, ends, own_ends, size=self._size, most_ids=self._most_ids)

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens, without a character that is cut off at the end."""
        decoded: bytes = self._table.decode_bytes(list(ids))
        return decoded.decode("utf-8", errors="ignore")

    def ids(self, text: str) -> list[int]:
        """The tokens of a text that stands inside an answer."""
        tokens: list[int] = self._table.tokenize_str(text)
        return tokens


def _limits(length: int) -> Any:
    """llguidance's limits, raised for a grammar of so many characters.

    Twice what was seen to be needed, with all answer formats, up to 60 labels, 16 marks inside each other and 20,000
    characters of text, on a vocabulary of 262,144 tokens.
    """
    import llguidance

    usual = llguidance.LLParserLimits()
    return llguidance.LLParserLimits(
        initial_lexer_fuel=usual.initial_lexer_fuel + 20 * length,
        step_lexer_fuel=usual.step_lexer_fuel + 40 * length,
        verbose_errors=False,  # which are pages of the parser's state
    )


def _reason(matcher: Any) -> str:
    """What llguidance says is wrong: a line, or more where it shows the place in a grammar."""
    reason = str(matcher.get_error()).replace("<non-verbose/>", "").strip()
    if reason.startswith("NoExtension"):
        return 'no answer is in its language: it contradicts itself, or refers to itself without end, as {"$ref": "#"} does'
    return reason


class Followed(NamedTuple):
    """An answer of A tokens beside its grammar.

    `free_E`: for each token, and for the end after the last (E = A + 1), whether generation asks the model there; it does
    not where one token alone may come next. `parted`: in place of how many tokens generation would write another, which
    the grammar forces. `allowed`: how many tokens are in the grammar, A where all are; what comes after those is free.
    """

    free_E: list[bool]
    parted: int
    allowed: int


class Constraint:
    """Where an answer stands in its grammar. `advance` and `rollback` move by tokens.

    `own_ends`: the tokens that end an answer for llguidance. `size`: of the vocabulary. `most_ids`: more are told as a mask.
    """

    def __init__(self, matcher: Any, stop_ids: Ids, own_ends: Ids, *, size: int, most_ids: int) -> None:
        self._matcher = matcher
        self._stop_ids = stop_ids
        self._own_ends = own_ends
        self._size = size
        self._most_ids = most_ids

    def forced(self) -> list[int]:
        """The tokens that must come next, as the tokenizer writes them; empty where there is a choice."""
        tokens: list[int] = self._matcher.compute_ff_tokens()
        return tokens

    def allowed(self) -> Allowed:
        """The tokens that may come next; the stop tokens among them where the answer may end here."""
        if self._matcher.is_stopped():
            self._check()
            return self._stop_ids
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        bytes_ = mask.nonzero()[0]
        bits = np.unpackbits(mask[bytes_], bitorder="little").reshape(-1, 8)
        if 8 * len(bytes_) > self._most_ids and np.count_nonzero(bits) > self._most_ids:
            return self._wide(np.unpackbits(mask, bitorder="little")[: self._size])
        rows, columns = bits.nonzero()
        tokens = bytes_[rows] * 8 + columns
        tokens = tokens[tokens < self._size]
        for end in self._own_ends:
            tokens = tokens[tokens != end]
        if self._matcher.is_accepting():
            tokens = np.union1d(tokens, self._stop_ids)
        if not len(tokens):
            raise InputError("the model has no token for what the grammar of the answer asks for next")
        return tokens

    def _wide(self, bits: npt.NDArray[np.uint8]) -> Mask:
        mask = np.zeros(self._size, dtype=np.bool_)
        mask[: len(bits)] = bits
        mask[self._own_ends[self._own_ends < self._size]] = False
        if self._matcher.is_accepting():
            mask[self._stop_ids] = True
        return mask

    def is_free(self) -> bool:
        """Whether several tokens may come next; those that end the answer count as one. For places where none is forced."""
        if self._matcher.is_stopped():
            self._check()
            return False
        if not self._matcher.is_accepting() and not self._matcher.compute_ff_bytes():
            return True  # different bytes may come next, so different tokens: found without looking at all tokens
        tokens = ids_of(self.allowed())
        return len(tokens) > 1 and not bool(np.isin(tokens, self._stop_ids).all())

    def follow(self, ids: Sequence[int]) -> Followed:
        """Go along a whole answer, without a token that ends it, and tell where generation has a choice. Only at the start."""
        free: list[bool] = []
        forced: list[int] = []
        parted = 0
        for token in ids:
            forced = forced or self.forced()
            if forced and forced[0] == token:
                free.append(False)
                forced = forced[1:]
            else:
                parted += bool(forced)
                free.append(bool(forced) or self.is_free())
                forced = []
            if not self._matcher.try_consume_tokens([token]):
                allowed = len(free) - 1
                return Followed(free[:-1] + [True] * (len(ids) + 1 - allowed), parted, allowed)
        return Followed([*free, bool(self.forced()) or self.is_free()], parted, len(ids))

    @property
    def finished(self) -> bool:
        """Whether nothing but the end can follow."""
        return bool(self._matcher.is_stopped())

    def advance(self, token: int) -> None:
        """Take a token that is allowed and does not end the answer."""
        self._matcher.consume_token(token)
        self._check()

    def rollback(self, tokens: int) -> None:
        """Take back the last tokens."""
        if tokens:
            self._matcher.rollback(tokens)
            self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InputError(f"the grammar of the answer cannot be followed: {_reason(self._matcher)}")
