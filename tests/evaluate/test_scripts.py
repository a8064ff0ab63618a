"""Which script a text is written in."""

from __future__ import annotations

import pytest

from nertune.evaluate.scripts import script_of


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("浙商银行叶老桂博士，2008年", "Chinese"),
        ("東京タワーへ行った", "Japanese"),
        ("서울에서", "Korean"),
        ("Angela met Olaf", "Latin script"),
        ("Москва", "Cyrillic script"),
        ("苹果发布iPhone15", "Chinese and Latin script"),
        ("他在浙江省杭州市西湖区的A座", "Chinese"),
        ("ＡＢＣ", "Latin script"),
        ("12 % …", "no letters"),
        ("", "no letters"),
    ],
)
def test_the_script_of_a_text(text, name):
    assert script_of(text) == name
