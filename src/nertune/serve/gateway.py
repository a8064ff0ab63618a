"""The gateway: `/v1/extract` over a server of somebody else's, whose own routes are passed on.

Keys, limits, log and figures are the shell's, as for our own engine; whoever asks the server behind directly has none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI

from nertune.errors import EngineStoppedError
from nertune.generate import AnswerPool
from nertune.serve.answers import Health
from nertune.serve.app import without_422
from nertune.serve.errors import ANY_ERROR, BEHIND, BEHIND_FAILED, ApiError, add_error_handlers
from nertune.serve.extraction import add_extraction
from nertune.serve.models import Catalogue, ServedModel
from nertune.serve.relay import Behind, add_relay
from nertune.serve.service import Service

__all__ = ["build_gateway"]


def build_gateway(models: Mapping[str, ServedModel], pool: AnswerPool, behind: Behind, *, version: str = "") -> FastAPI:
    """An application that reads texts with `models`, through `pool`, and passes the rest on to the server behind."""
    service = Service(Catalogue(models), pool)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()
        await behind.close()

    app = FastAPI(title="nertune", version=version or "0", lifespan=lifespan, docs_url=None, redoc_url=None)
    add_error_handlers(app)

    @app.get("/health", response_model=Health, responses=ANY_ERROR, tags=["nertune"])
    async def health() -> Health:
        """Whether the server behind answers: 200 where it does, 503 where it does not or this one is being closed."""
        if pool.state != "running":
            raise EngineStoppedError(f"the engine is {pool.state}")
        if not await behind.health():
            raise ApiError(BEHIND_FAILED, status=503, kind="server_error", code=BEHIND)
        return Health(unfinished=pool.unfinished)

    add_relay(app, behind, pool)
    add_extraction(app, service)
    without_422(app)
    return app
