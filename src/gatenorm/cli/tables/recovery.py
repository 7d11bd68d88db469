"""Recoveries in words."""

from collections.abc import Iterator

from rich.table import Table

from gatenorm.cli import console
from gatenorm.cli.tables import table
from gatenorm.records import spans
from gatenorm.records.numbers import duration
from gatenorm.recovery.merging import ADAPTER
from gatenorm.recovery.record import Recovered
from gatenorm.recovery.study_record import LOST_ACCURACY, TOLERANCE, Study


def show(recovered: Recovered) -> None:
    """What a recovery won back, and what it took."""
    evidence = recovered.evidence
    if recovered.already:
        console.say(f"{recovered.directory} is finished already; this is what was measured:")
    if recovered.record.diverged:
        console.warn(f"the training diverged and was stopped: {recovered.record.diverged}; the best of it was kept")
    written = evidence.data.self_text
    if written and written.gibberish:
        console.warn(written.gibberish)
    windows = evidence.protocol.held_out_windows
    console.say(
        f"held-out perplexity {evidence.perplexity_before:.4g} pruned, {evidence.perplexity_merged:.4g} recovered"
        + (f", {evidence.perplexity_parent:.4g} the parent" if evidence.perplexity_parent is not None else "")
        + f" ({windows} windows of {evidence.protocol.settings.length} tokens)"
    )
    if evidence.won_back is not None:
        console.say(f"of the log-perplexity that pruning lost, {evidence.won_back:.0%} was won back")
    console.say(
        f"{evidence.best_step} of {evidence.steps} steps, {evidence.tokens:,} tokens, "
        f"{duration(evidence.seconds)}; {evidence.trainable:,} trained parameters"
    )
    adapter = recovered.directory / ADAPTER
    alone = f"; the adapters alone lie in {adapter}" if adapter.is_dir() else ""
    console.say(f"{recovered.directory}: pruned and recovered{alone}")
    console.say("It is another model than the pruned one: check its quality, licence, safety and refusals anew")


def show_study(study: Study) -> None:
    """What each budget lost and won back."""
    for rows in study_tables(study):
        console.print_table(rows)
    for line in study_lines(study):
        console.say(line)


def study_tables(study: Study) -> Iterator[Table]:
    """A row a variant with its perplexities, then for each criterion a row a task; before and after."""
    title = f"{study.model.name}: pruned, and pruned and recovered ({study.protocol.settings.steps} steps)"
    texts = study.dense.perplexities
    perplexities = (f">perplexity {name}" for name in texts)
    rows = table(title, "criterion", ">removed", *perplexities, ">won back", ">minutes", ">recovers")
    rows.add_row("dense", "0", *(f"{value:.4g}" for value in texts.values()), "", "", "")
    for variant in (v for criterion in study.criteria for v in study.of(criterion)):
        rows.add_row(
            variant.criterion,
            str(len(variant.removed)),
            *(f"{variant.before.perplexities[name]:.4g} → {variant.after.perplexities[name]:.4g}" for name in texts),
            "-" if variant.won_back is None else f"{variant.won_back:.0%}",
            f"{variant.minutes:.1f}" if variant.minutes >= 1 else f"{variant.minutes:.2g}",
            "yes" if variant.works else "no",
        )
    yield rows
    for criterion in study.criteria if study.tasks else ():
        own = study.of(criterion)
        title = f"{criterion}: accuracy by task and number of removed sublayers"
        rows = table(title, "task", ">dense", *(f">{len(v.removed)}" for v in own), ">recovers up to")
        for name, dense in study.dense.tasks.items():
            pairs = (f"{v.before.tasks[name]:.2f} → {v.after.tasks[name]:.2f}" for v in own)
            rows.add_row(name, f"{dense:.2f}", *pairs, str(study.task_boundary(criterion, name) or "none"))
        yield rows


def study_lines(study: Study) -> list[str]:
    """What a study says, a sentence a criterion, and what it warns of."""
    lines = []
    for criterion in study.criteria:
        last = study.largest_working(criterion)
        within = f"within {TOLERANCE:.0%} of the dense model's held-out perplexity"
        if last is None:
            lines.append(f"{criterion}: no budget that was tried recovers to {within}")
        else:
            share = len(last.removed) / study.present
            lines.append(
                f"{criterion}: recovers to {within} up to {len(last.removed)} of {study.present} layers "
                f"({share:.0%}: {spans(last.removed)})"
            )
    for variant in study.variants:
        if variant.over_fits:
            rose = f"{variant.before.other:.4g} to {variant.after.other:.4g}"
            lines.append(f"warning: {variant.name} over-fits: on the other text perplexity rose from {rose}")
        if variant.diverged:
            lines.append(f"warning: the training of {variant.name} diverged ({variant.diverged}): the best was kept")
    how = f"{study.protocol.windows} windows of {study.protocol.window} tokens"
    recovers = f"; tasks recover where their accuracy lies at most {LOST_ACCURACY:.2f} below the dense model's"
    lines.append(f"protocol: perplexity on {how} at most{recovers if study.tasks else ''}")
    return lines
