"""Serving runs over HTTP: the shell that holds the limits, and behind it OpenAI's routes and `/v1/extract`."""
