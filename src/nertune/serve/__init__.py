"""The serving room: an OpenAI-compatible API and `/v1/extract`, over an engine's thread or a server behind.

It loads no model library.
"""
