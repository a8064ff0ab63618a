"""A few steps of one training, timed, printed as one JSON line: python formats_step.py RECIPE STEPS [key=value ...]

The first step is not counted: it makes the kernels.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time

from nertune.train import load_recipe
from nertune.train.callbacks import Progress
from nertune.train.fit import train


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("steps", type=int)
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    options = parser.parse_args()
    ended: dict[int, float] = {}  # the step, and when it ended

    def report(progress: Progress) -> None:
        ended.setdefault(progress.step, time.monotonic())

    with tempfile.TemporaryDirectory() as scratch:
        run = [f"output={scratch}/run", f"training.max_steps={options.steps + 1}"]
        recipe = load_recipe(options.recipe, [*options.overrides, *run])
        train(recipe, report=report)
    seconds = ended[options.steps + 1] - ended[1]
    samples = options.steps * recipe.training.batch_size * recipe.training.accumulation
    print(json.dumps({"samples_per_second": samples / seconds}))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
