"""How files of strangers are read: strictly and within limits, so that nothing in them is lost or works for ever."""

from nertune.files.encoding import as_utf8, encoding_of, is_utf8, read_text, to_text

__all__ = ["as_utf8", "encoding_of", "is_utf8", "read_text", "to_text"]
