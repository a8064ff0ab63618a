"""How files of strangers are read: strictly and within limits, so that nothing in them is lost or works for ever."""

from nertune.files.json_files import parse_json
from nertune.files.strict_yaml import YamlError, parse_yaml, read_yaml

__all__ = ["YamlError", "parse_json", "parse_yaml", "read_yaml"]
