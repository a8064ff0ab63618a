"""Experiment trackers: where a training's numbers go besides its own run directory.

`settings` reads the recipe's `track`, `trackers` speaks to each library, `tracking` feeds them from the trainer.
"""

from nertune.train.track.settings import TrackerSettings, parse_track
from nertune.train.track.trackers import Outcome, SampleRow, Tracker

__all__ = ["Outcome", "SampleRow", "Tracker", "TrackerSettings", "parse_track"]
