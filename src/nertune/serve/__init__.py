"""The serving room: an OpenAI-compatible API over an engine's thread, and `/v1/extract`. It loads no model library."""
