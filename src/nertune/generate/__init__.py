"""The generation room: the `Engine` protocol and the engines behind it. Importing it loads no model library."""

from nertune.generate.engine import Completion, Engine, Outcome, Request, ScriptedEngine, Stepping
from nertune.generate.loop import EngineLoop, Job

__all__ = ["Completion", "Engine", "EngineLoop", "Job", "Outcome", "Request", "ScriptedEngine", "Stepping"]
