"""The Recognizer: texts in, grounded predictions out. The end of the road for whoever uses a trained run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from nertune.confidence import Calibration, MinScore, check_min_score, settle
from nertune.errors import InputError, NertuneError
from nertune.extract.ground import ground
from nertune.extract.scores import MentionScore, mention_scores
from nertune.generate import Completion, Engine, Request
from nertune.prompt import ParsedAnswer, Renderer
from nertune.schema import Prediction

__all__ = ["Recognizer"]

# An answer may copy the text and add labels, and the copy may be tokenized less well than the text was.
_ANSWER_BASE, _ANSWER_FACTOR = 48, 3


@dataclass(frozen=True, slots=True)
class Recognizer:
    """A renderer and an engine: the same prompt that training saw, generated, read and grounded.

    `max_new_tokens` limits an answer; None allows three times the text's own tokens and 48 more. `constrained`: only
    answers that can be true are generated; without it the model is free, and its answers are repaired where they must be.
    `calibration`: makes scores of the model's probabilities; None leaves them as they are. `min_score`: entities with a
    lower score are left out, and so are those without one; "calibrated" takes the calibration's thresholds, by label.
    """

    renderer: Renderer
    engine: Engine
    max_new_tokens: int | None = None
    constrained: bool = False
    calibration: Calibration | None = None
    min_score: MinScore | None = None

    def __post_init__(self) -> None:
        check_min_score(self.min_score, self.calibration)

    def extract(self, text: str) -> Prediction:
        """Entities of one text. Raises InputError for a text that cannot be used."""
        return self.extract_many([text])[0]

    def extract_many(self, texts: Sequence[str], *, done: Callable[[int], None] | None = None) -> list[Prediction]:
        """Predictions in the order of the texts. `done(n)` is told how many answers have ended so far."""
        requests = [self._request(number, text) for number, text in enumerate(texts, 1)]
        completions = self.engine.generate(requests, done=done)
        return [self._read(text, completion) for text, completion in zip(texts, completions, strict=True)]

    def extract_stream(self, texts: Iterable[str], *, chunk: int = 256) -> Iterator[Prediction]:
        """Predictions as they come, `chunk` texts at a time, in bounded memory."""
        waiting = iter(texts)
        while batch := list(islice(waiting, chunk)):
            yield from self.extract_many(batch)

    def _request(self, number: int, text: str) -> Request:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"text {number} is empty: there is nothing to extract from")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"text {number} holds a lone surrogate at character {error.start}: {text!r:.60}"
            ) from error
        prompt_ids = tuple(self.renderer.prompt_ids(text))
        shared = self.renderer.shared_prefix_ids
        starts_alike = prompt_ids[: len(shared)] == shared
        limit = self.max_new_tokens
        if limit is None:
            own = max(len(prompt_ids) - len(shared), len(self.renderer.answer_ids(text)))
            limit = _ANSWER_BASE + _ANSWER_FACTOR * own
        return Request(
            prompt_ids,
            self.renderer.stop_ids,
            limit,
            shared_prefix=len(shared) if starts_alike else 0,
            grammar=self.renderer.grammar(text) if self.constrained else None,
            draft=self.renderer.draft(text),
        )

    def _read(self, text: str, completion: Completion) -> Prediction:
        answer = self.renderer.parse(completion.ids, cut=completion.stop == "length")
        scores = self._scores(completion, answer)
        entities, ungrounded = ground(text, answer, self.renderer.spec.labels, scores)
        if self.min_score is not None and entities and not completion.logprobs:
            raise NertuneError("this engine gives no probabilities, so entities have no scores: leave min_score out")
        prediction = Prediction(text, entities, ungrounded, stop=completion.stop, outcome=answer.outcome)
        return settle(prediction, self.calibration, self.min_score)

    def _scores(self, completion: Completion, answer: ParsedAnswer) -> tuple[MentionScore, ...]:
        """Scores of the answer's mentions; empty where the engine, the format or the tokenizer does not tell."""
        if not completion.logprobs or not answer.written:
            return ()
        places = self.renderer.token_places(completion.ids)
        if places is None or len(completion.logprobs) < len(places):
            return ()
        return mention_scores(places, completion.logprobs, answer, self.renderer.spec.labels)
