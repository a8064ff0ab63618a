"""An application behind the HTTP shell, on a free loopback port, in a thread."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from nertune.serve.http import HttpServer
from nertune.serve.keys import VARIABLE
from nertune.serve.logs import Log
from nertune.serve.settings import Settings


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address of the application, without a path."""
    with mock.patch.dict(os.environ):
        os.environ.pop(VARIABLE, None)
        server = HttpServer(app, Settings(port=0, grace=2.0), log=Log(io.StringIO()))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.stop()
        thread.join(20)
