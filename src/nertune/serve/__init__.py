"""Serving a run over HTTP: the shell that holds the limits, and the application behind it."""
