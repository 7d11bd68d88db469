"""From a model to a pruned one and what it costs, in Python: python examples/first_steps.py

Takes half a minute on the built-in model, and needs `pip install 'gatenorm[torch]'`. Give the name of another model, a
directory or a model id of the hub, and a text to judge by: python examples/first_steps.py ./llama held-out.txt
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import gatenorm
from gatenorm.evaluation.core.job import TaskOptions


def main(model: str = "demo", text: str = "") -> None:
    """Score, plan, prune, load, and compare with the unpruned model."""
    scores = gatenorm.score(model)
    print("weakest attention sublayers first:", *scores.ranking[:5])

    plan = gatenorm.plan(model, share=0.2)
    print("removed:", *plan.edits.attention)

    with tempfile.TemporaryDirectory() as folder:
        pruned = gatenorm.prune(model, Path(folder) / "pruned", plan)
        parameters = sum(p.numel() for p in gatenorm.load(pruned).parameters())
        print(f"{parameters:,} parameters are left")

        # The built-in model is judged by stories in its own language, other models by the text that was given.
        task = "perplexity" if text else "stories"
        found = gatenorm.evaluate(pruned, task, text or (), baseline=model, request=TaskOptions(limit=4))
        for record in found:
            for name, value in record.numbers().items():
                if name == "perplexity":
                    print(f"{record.model.name}: perplexity {value:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
