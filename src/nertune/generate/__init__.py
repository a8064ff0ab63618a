"""The generation room: the `Engine` protocol and the engines behind it. Importing it loads no model library."""

from nertune.generate.engine import Completion, Engine, Outcome, Request, ScriptedEngine, Stepping
from nertune.generate.loop import EngineLoop, Job
from nertune.generate.pool import AnswerPool, Backend

__all__ = [
    "AnswerPool",
    "Backend",
    "Completion",
    "Engine",
    "EngineLoop",
    "Job",
    "Outcome",
    "Request",
    "ScriptedEngine",
    "Stepping",
]
