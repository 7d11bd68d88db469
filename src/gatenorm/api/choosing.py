"""Attention and MLP sublayers in one ranking: what each edit damages and saves."""

from collections.abc import Sequence

from gatenorm.api.opening import ModelLike, session
from gatenorm.api.scoring import score
from gatenorm.calibration.samples import Calibration
from gatenorm.criteria.registry import check_measures_damage, criterion as criterion_named
from gatenorm.progress import Progress, half_of
from gatenorm.records import ATTENTION, MLP, REMOVE, SUBLAYERS
from gatenorm.records.rankings import SublayerRanking
from gatenorm.speed.predict.choice import Savings, ranked
from gatenorm.speed.predict.machines import DEFAULT
from gatenorm.speed.predict.targets import Target
from gatenorm.surgery.planning import check_count
from gatenorm.surgery.selection import alternatives


def rank_sublayers(
    model: ModelLike,
    *,
    criterion: str,
    replace: str = REMOVE,
    machine: str = DEFAULT,
    context: int | None = None,
    batch: int = 1,
    protect: Sequence[int] = (),
    family: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    calibration: Calibration | str | None = None,
    progress: Progress | None = None,
) -> SublayerRanking:
    """Rank attention and MLP sublayers together, by damage for the time that editing them is predicted to save.

    Args:
        criterion: must measure the damage of both alike: ``cosine``, ``leave-one-out``, ``leave-one-out-linear``.
        replace: what takes their place; where it cannot (a linear map in an MLP's), the sublayer is removed.
        machine, context, batch: what to predict for, as in :func:`plan`.
        protect: layers both of whose sublayers stay.
        family, device, dtype, calibration: as in :func:`score`.

    Raises:
        CriterionError: as :func:`score`, or a criterion that does not measure the damage of both.
        PlanError: an operation that there is not, or a context that is too long.
        EvaluationError: an unknown machine, or a checkpoint that is no whole model.
    """
    check_measures_damage(criterion_named(criterion.partition("@")[0]))
    opened = session(model, family=family, device=device, dtype=dtype)
    layout = opened.layout
    edits = alternatives(layout, replace, protect)
    for kind in SUBLAYERS:
        check_count(layout, 1, protect, kind)
    savings = Savings(layout, Target(machine=machine, context=context, batch=batch))
    of_attention, of_mlps = (
        score(opened, criterion, kind=kind, calibration=calibration, progress=half_of(progress, second=kind == MLP))
        for kind in SUBLAYERS
    )
    scores = {ATTENTION: of_attention, MLP: of_mlps}
    found = {(kind, one.layer): one.score for kind, made in scores.items() for one in made.layers}
    return SublayerRanking(
        sublayers=ranked(savings, {edit: found[edit.sublayer, edit.layer] for edit in edits}),
        scores=of_attention,
        mlp_scores=of_mlps,
        machine=machine,
        context=savings.context,
        batch=batch,
    )
