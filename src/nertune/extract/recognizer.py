"""The Recognizer: texts in, grounded predictions out. The end of the road for whoever uses a trained run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from nertune.confidence import Calibration, MinScore, check_min_score, settle
from nertune.errors import InputError, NertuneError
from nertune.extract.ground import ground
from nertune.extract.scores import MentionScore, mention_scores
from nertune.extract.trace import Trace, show, traces
from nertune.extract.windows import Parts, merge, split, whole
from nertune.generate import Completion, Engine, Request
from nertune.prompt import ParsedAnswer, Renderer
from nertune.schema import Prediction

__all__ = ["Prepared", "Recognizer", "answer_limit"]

# An answer may copy the text and add labels, and the copy may be tokenized less well than the text was.
_ANSWER_BASE, _ANSWER_FACTOR = 48, 3


def answer_limit(own: int) -> int:
    """Tokens that the answer about a text of `own` tokens may have."""
    return _ANSWER_BASE + _ANSWER_FACTOR * own


@dataclass(frozen=True, slots=True)
class Prepared:
    """Texts on their way to an engine. `parts`: the windows of each; `shown` and `requests`: of all windows, in order."""

    texts: tuple[str, ...]
    parts: tuple[Parts, ...]
    shown: tuple[str, ...]
    requests: tuple[Request, ...]


@dataclass(frozen=True, slots=True)
class Recognizer:
    """A renderer and an engine: the same prompt that training saw, generated, read and grounded.

    `max_new_tokens` limits an answer; None allows three times the text's own tokens and 48 more. `constrained`: only
    answers that can be true are generated; without it the model is free, and its answers are repaired where they must be.
    `calibration`: makes scores of the model's probabilities; None leaves them as they are. `min_score`: entities with a
    lower score are left out, and so are those without one; "calibrated" takes the calibration's thresholds, by label.
    `window`: the longest text, in tokens, that is read in one piece; longer ones are read in overlapping windows. None
    reads every text in one piece. `adapter`: which one of the engine's answers; None where it holds none.
    """

    renderer: Renderer
    engine: Engine
    max_new_tokens: int | None = None
    constrained: bool = True
    calibration: Calibration | None = None
    min_score: MinScore | None = None
    window: int | None = None
    adapter: str | None = None

    def __post_init__(self) -> None:
        check_min_score(self.min_score, self.calibration)

    def extract(self, text: str, *, debug: bool = False) -> Prediction:
        """Entities of one text. `debug`: print prompt, token ids and answer to stderr. Raises InputError for a bad text."""
        return self.extract_many([text], trace=show if debug else None)[0]

    def extract_many(
        self,
        texts: Sequence[str],
        *,
        done: Callable[[int], None] | None = None,
        trace: Callable[[Trace], None] | None = None,
    ) -> list[Prediction]:
        """Predictions in the order of the texts.

        `done(n)` is told how many texts have been read so far, an estimate where some are read in windows. `trace` is
        given, at the end, what was sent for each window of each text and what came back.
        """
        prepared = self.prepare(texts)
        total = len(prepared.requests)
        tell = (lambda ended: done(ended * len(texts) // max(1, total))) if done else None
        return self.read(prepared, self.engine.generate(prepared.requests, done=tell), trace=trace)

    def prepare(self, texts: Sequence[str]) -> Prepared:
        """What an engine is to be asked about texts: for whoever has an engine of their own kind. Raises InputError."""
        names = ["the text"] if len(texts) == 1 else [f"text {number}" for number in range(1, len(texts) + 1)]
        parts = [self._parts(name, text) for name, text in zip(names, texts, strict=True)]
        shown = [text[w.start : w.end] for text, own in zip(texts, parts, strict=True) for w in own.windows]
        return Prepared(tuple(texts), tuple(parts), tuple(shown), tuple(map(self._request, shown)))

    def read(
        self,
        prepared: Prepared,
        completions: Sequence[Completion],
        *,
        trace: Callable[[Trace], None] | None = None,
    ) -> list[Prediction]:
        """What an engine's answers to `prepared.requests` say, one prediction a text."""
        answers = iter(zip(prepared.shown, prepared.requests, completions, strict=True))
        predictions = []
        for number, (text, own) in enumerate(zip(prepared.texts, prepared.parts, strict=True), 1):
            answered = list(islice(answers, len(own.windows)))
            if trace:
                for found in traces(self.renderer, number, own, answered):
                    trace(found)
            predictions.append(merge(text, own, [self._read(piece, completion) for piece, _, completion in answered]))
        return predictions

    def extract_stream(self, texts: Iterable[str], *, chunk: int = 256) -> Iterator[Prediction]:
        """Predictions as they come, `chunk` texts at a time, in bounded memory."""
        waiting = iter(texts)
        while batch := list(islice(waiting, chunk)):
            yield from self.extract_many(batch)

    def _parts(self, name: str, text: str) -> Parts:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{name} is empty: there is nothing to extract from")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"{name} holds a lone surrogate at character {error.start}: {text!r:.60}") from error
        if self.window is None:
            return whole(text)
        return split(text, self.window, lambda part: len(self.renderer.answer_ids(part)))

    def _request(self, text: str) -> Request:
        prompt_ids = tuple(self.renderer.prompt_ids(text))
        shared = self.renderer.shared_prefix_ids
        starts_alike = prompt_ids[: len(shared)] == shared
        limit = self.max_new_tokens
        if limit is None:
            # What follows the shared prefix is the text and the prompt's end, so no less than the text's own tokens.
            own = len(prompt_ids) - len(shared) if starts_alike else len(self.renderer.answer_ids(text))
            limit = answer_limit(own)
        return Request(
            prompt_ids,
            self.renderer.stop_ids,
            limit,
            shared_prefix=len(shared) if starts_alike else 0,
            grammar=self.renderer.grammar(text) if self.constrained else None,
            draft=self.renderer.draft(text),
            messages=self.renderer.messages(text),
            schema=self.renderer.schema() if self.constrained else None,
            adapter=self.adapter,
        )

    def _read(self, text: str, completion: Completion) -> Prediction:
        cut = completion.stop == "length"
        if completion.text is None:
            answer = self.renderer.parse(completion.ids, cut=cut)
        else:
            answer = self.renderer.spec.answer.parse(completion.text, cut=cut)
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
        return mention_scores(places, completion.logprobs, answer, self.renderer.shown)
