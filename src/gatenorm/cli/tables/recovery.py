"""Recoveries in words."""

from __future__ import annotations

from gatenorm.cli import console
from gatenorm.recovery.record import Recovered
from gatenorm.recovery.study import Study
from gatenorm.report.study_tables import study_lines, study_tables


def show(recovered: Recovered) -> None:
    """What a recovery won back, and what it took."""
    evidence = recovered.evidence
    figures = evidence.numbers()
    if recovered.already:
        console.say(f"{recovered.directory} is finished already; this is what was measured:")
    if recovered.record.diverged:
        console.warn(f"the training diverged and was stopped: {recovered.record.diverged}; the best of it was kept")
    windows = evidence.protocol.held_out_windows
    console.say(
        f"held-out perplexity {figures['perplexity_before']:.4g} pruned, {figures['perplexity_merged']:.4g} recovered"
        + (f", {figures['perplexity_parent']:.4g} the parent" if "perplexity_parent" in figures else "")
        + f" ({windows} windows of {evidence.protocol.length} tokens)"
    )
    if evidence.won_back is not None:
        console.say(f"of the log-perplexity that pruning lost, {evidence.won_back:.0%} was won back")
    console.say(
        f"{evidence.best_step} of {evidence.steps} steps, {evidence.tokens:,} tokens, "
        f"{_duration(evidence.seconds)}; {evidence.trainable:,} trained parameters"
    )
    console.say(
        f"{recovered.directory}: pruned and recovered; the adapters alone lie in {recovered.directory / 'adapter'}"
    )
    console.say("It is another model than the pruned one: check its quality, licence, safety and refusals anew")


def show_study(study: Study) -> None:
    """What each budget lost and won back."""
    for rows in study_tables(study):
        console.print_table(rows)
    for line in study_lines(study):
        console.say(line)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 120 else f"{seconds:.3g} seconds"
