"""Asks an engine in the environment that it lives in: ``python -m tests.engines.asked ENGINE JOBS.json ANSWERS.npz``.

A job is a name with the path to open, the prompts, and how many tokens to continue each by. Needs the engine, numpy and
gatenorm, and nothing of the test suite.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from gatenorm.engines import engine_named
from gatenorm.errors import EvaluationError

TEXT = "Once upon a time, there was a little girl."


def main(engine: str, jobs: str, answers: str) -> None:
    found: dict[str, np.ndarray] = {}
    for name, job in json.loads(Path(jobs).read_text()).items():
        try:
            opened = engine_named(engine).open(Path(job["path"]))
        except EvaluationError as error:
            found[f"{name}/refused"] = np.array(str(error))
            continue
        continued = opened.continue_greedily(job["prompts"], job["tokens"])
        found[f"{name}/tokens"] = np.array([c.tokens for c in continued])
        found[f"{name}/logprobs"] = np.stack([c.logprobs for c in continued])
        found[f"{name}/cached_layers"] = np.array(opened.cached_layers)
        cut = opened.tokenize(TEXT)
        found[f"{name}/cut"] = np.array([] if cut is None else cut)
        opened.close()
    np.savez(answers, **found)


if __name__ == "__main__":
    main(*sys.argv[1:])
