"""Documents to report on, and a real browser to open the page in."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from nertune.schema import Document, Entity, Mention, Prediction


@pytest.fixture(scope="session")
def pairs() -> Callable[[int], tuple[list[Document], list[Prediction]]]:
    """A function from a number to so many Chinese sentences with nested, missed, wrong and ungrounded mentions."""

    def build(count: int) -> tuple[list[Document], list[Prediction]]:
        chosen = random.Random(0)
        gold, predicted = [], []
        for number in range(count):
            body = "".join(chosen.choices("浙商银行企业信贷部叶老桂博士则从另一个角度对五道门槛进行了解读", k=30))
            text = f"{body}北京大学第{number}医院。"
            spans = [("组织", 30, len(text) - 1), ("地点", 30, 32), ("人名", 4, 7)]
            found = [("组织", 30, len(text) - 1), ("地点", 30, 32 + number % 2), ("书名", 12, 14)]
            entities = tuple(Entity(n, s, e, text[s:e], chosen.choice((0.55, 0.97))) for n, s, e in found)
            nowhere = (Mention("人名", "王小明"),) if number % 5 == 0 else ()
            gold.append(Document.of(text, spans, id=f"d{number}"))
            predicted.append(Prediction(text, entities, nowhere))
        return gold, predicted

    return build
