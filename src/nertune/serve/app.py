"""The HTTP API as a FastAPI application: what is served, and by which engine's thread.

It knows nothing of sockets, keys and limits: the shell around it does. Nothing here holds the event loop up: prompts are
written and answers read in threads, tokens come from the engine's own thread.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from nertune.errors import EngineStoppedError
from nertune.generate import Backend
from nertune.serve.answers import Health, ModelCard, ModelList
from nertune.serve.chat import add_chat
from nertune.serve.completions import add_completions
from nertune.serve.errors import ANY_ERROR, add_error_handlers
from nertune.serve.extraction import add_extraction
from nertune.serve.models import Catalogue, ServedModel
from nertune.serve.service import Service

__all__ = ["build_app", "without_422"]


def build_app(
    models: Mapping[str, ServedModel], loop: Backend, *, version: str = "", default_tokens: int = 1024
) -> FastAPI:
    """An application that serves models, by name, over one engine. `default_tokens`: of answers without a limit."""
    service = Service(Catalogue(models), loop, default_tokens=default_tokens)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="nertune", version=version or "0", lifespan=lifespan, docs_url=None, redoc_url=None)
    add_error_handlers(app)
    add_listing(app, service)
    add_chat(app, service)
    add_completions(app, service)
    add_extraction(app, service)
    without_422(app)
    return app


def add_listing(app: FastAPI, service: Service) -> None:
    """Models and health."""

    def card(model: ServedModel) -> ModelCard:
        return ModelCard(
            id=model.name,
            created=model.created,
            root=model.root,
            parent=model.parent,
            max_model_len=model.context,
        )

    @app.get("/v1/models", response_model=ModelList, responses=ANY_ERROR, tags=["OpenAI"])
    async def listed() -> ModelList:
        """What is served: the base model, if it is, and each run."""
        return ModelList(data=[card(model) for model in service.catalogue.models.values()])

    @app.get("/v1/models/{name:path}", response_model=ModelCard, responses=ANY_ERROR, tags=["OpenAI"])
    async def one(name: str) -> ModelCard:
        """One of the served models."""
        return card(service.catalogue.find(name))

    @app.get("/health", response_model=Health, responses=ANY_ERROR, tags=["nertune"])
    async def health() -> Health:
        """Whether the engine takes requests: 200 where it does, 503 where it is being rebuilt after a failure, or closed."""
        if service.loop.state != "running":
            raise EngineStoppedError(f"the engine is {service.loop.state}")
        return Health(unfinished=service.loop.unfinished)


def without_422(app: FastAPI) -> None:
    """Bodies that cannot be used are answered with 400 here: let OpenAPI say so."""
    described = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = described()
            for routes in schema["paths"].values():
                for route in routes.values():
                    route["responses"].pop("422", None)
            for name in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(name, None)
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]
