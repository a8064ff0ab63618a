"""How files of strangers are read: strictly and within limits, so that nothing in them is lost or works for ever."""

from nertune.files.encoding import as_utf8, encoding_of, is_utf8, read_text, to_text
from nertune.files.json_files import as_json, parse_json
from nertune.files.strict_yaml import YamlError, parse_yaml, read_yaml

__all__ = [
    "YamlError",
    "as_json",
    "as_utf8",
    "encoding_of",
    "is_utf8",
    "parse_json",
    "parse_yaml",
    "read_text",
    "read_yaml",
    "to_text",
]
