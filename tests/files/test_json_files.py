"""JSON of a run's own files: whatever stands there is a value or one ValueError."""

import pytest

from nertune import confidence
from nertune.errors import RunError
from nertune.files import parse_json


def test_a_value_or_one_error():
    assert parse_json(b'{"a": [1, NaN]}').keys() == parse_json('{"a": [1, NaN]}').keys()
    for content in (b"[" * 100_000, "{" * 3, b"\xff", "", '{"a":' * 100_000, "9" * 5000):
        with pytest.raises(ValueError, match=r"."):
            parse_json(content)
    for content in ('{"a": 1, "a": 2}', "NaN"):
        with pytest.raises(ValueError, match=r"once|no number"):
            parse_json(content, strict=True)


def test_a_calibration_of_brackets_is_damaged(tmp_path):
    (tmp_path / confidence.CALIBRATION).write_text("[" * 20_000)
    with pytest.raises(RunError, match=r"damaged .*nested too deeply"):
        confidence.Calibration.read(tmp_path)
