"""``gatenorm reproduce``: a table or figure of the paper measured here, and whether its claims hold."""

from gatenorm.cli import console
from gatenorm.cli.options import common, study
from gatenorm.errors import StudyError

NAME = "reproduce"
EXAMPLE = "Example: gatenorm reproduce smollm2-perplexity --model ./smollm2 --data wikitext2=wiki.test.raw --dry-run"


def command(
    *,
    name: study.Name,
    model: study.Model,
    data: study.Data,
    calibration: study.Calibration,
    zeroshot: study.Zeroshot,
    list_: study.List,
    dry_run: study.DryRun,
    trial: study.Trial,
    state: study.State,
    json: common.Json,
    plot: common.Plot,
    device: common.Device,
    dtype: common.Dtype,
    batch_size: common.BatchSize,
) -> None:
    """Run the recipe NAME: measure, show the paper's figures beside the results, and judge the paper's claims."""
    from gatenorm.cli.tables import reproduction as tables
    from gatenorm.study.recipe import recipe, recipes

    if list_:
        known = {name: recipe(name) for name in recipes()}
        console.deliver(json, known, lambda: tables.show_recipes(known))
        return
    if name is None:
        raise StudyError("recipe-missing", "is missing", field="name", expected=f"one of {', '.join(recipes())}")
    if plot:
        from gatenorm.study.drawing import check_drawable

        check_drawable(recipe(name).plot, plot)
    console.quiet_transformers()
    from gatenorm.study.run import Options, estimate, reproduce

    options = Options(model, data, calibration, zeroshot, state, device, dtype, batch_size, trial)
    if dry_run:
        asked, parts = estimate(name, options)
        console.deliver(json, parts, lambda: tables.show_plan(asked, parts))
        return
    with console.kept_in(state):
        result = reproduce(name, options, console.progress_bar)
    if plot:
        from gatenorm.study.drawing import plot as draw

        draw(result, plot)
    console.deliver(json, result, lambda: tables.show(result, trial is not None))
