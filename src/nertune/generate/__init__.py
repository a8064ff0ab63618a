"""The generation room: the `Engine` protocol and the engines behind it. Importing it loads no model library."""

from nertune.generate.engine import Completion, Engine, Request, ScriptedEngine

__all__ = ["Completion", "Engine", "Request", "ScriptedEngine"]
