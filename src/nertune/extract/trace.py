"""What was sent and what came back: all that lies between one window of a text and its entities."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from nertune.console.writer import SafeConsole
from nertune.extract.windows import Parts, Window
from nertune.generate import Completion, Request
from nertune.prompt import Renderer
from nertune.schema import StopReason

__all__ = ["Answered", "Trace", "show", "traces"]

Answered = tuple[str, Request, Completion]
"""What was shown of a text, what was sent for it, and what came back."""


@dataclass(frozen=True, slots=True)
class Trace:
    """One request and its answer.

    `text`: the number of the text among those given together, from 1; `window`: what of it was shown; `part` of `parts`:
    which of its windows, from 1. `prompt`: as the chat template writes it; `prompt_ids`: its token ids as sent.
    `new_ids`: token ids generated, without the one that stopped, empty where a server gives text; `answer`: what they
    say; `stop`: why they ended.
    """

    text: int
    window: Window
    part: int
    parts: int
    prompt: str
    prompt_ids: tuple[int, ...]
    new_ids: tuple[int, ...]
    answer: str
    stop: StopReason

    @property
    def attention_mask(self) -> tuple[int, ...]:
        """1 for each token of the prompt: requests are packed, not padded, so none is hidden."""
        return (1,) * len(self.prompt_ids)


def traces(renderer: Renderer, number: int, parts: Parts, answered: Sequence[Answered]) -> Iterator[Trace]:
    """The traces of all windows of one text; `number` is its own."""
    for part, (window, (shown, request, completion)) in enumerate(zip(parts.windows, answered, strict=True), 1):
        yield Trace(
            text=number,
            window=window,
            part=part,
            parts=len(parts.windows),
            prompt=renderer.prompt_text(shown),
            prompt_ids=request.prompt_ids,
            new_ids=completion.ids,
            answer=renderer.decode(completion.ids) if completion.text is None else completion.text,
            stop=completion.stop,
        )


def show(trace: Trace, console: Console | None = None) -> None:
    """Print a trace: the prompt, its token ids and attention mask, the new ids, the answer; to stderr unless told."""
    console = console or SafeConsole(stderr=True)
    window = "" if trace.parts == 1 else f", window {trace.part} of {trace.parts}"
    place = f"characters {trace.window.start} to {trace.window.end}"
    ended = "ended by itself" if trace.stop == "end" else "cut off at the limit"
    for heading, content, style in (
        (f"text {trace.text}{window}, {place}: prompt of {len(trace.prompt_ids)} tokens", trace.prompt, ""),
        ("input_ids", str(list(trace.prompt_ids)), "bright_black"),
        ("attention_mask", str(list(trace.attention_mask)), "bright_black"),
        (f"new ids: {len(trace.new_ids)} tokens, {ended}", str(list(trace.new_ids)), "bright_black"),
        ("answer", trace.answer, "black on green"),
    ):
        console.print(Text(heading, style="bold"), soft_wrap=True)
        console.print(Text(content, style=style), soft_wrap=True)
