"""Fitting what takes the place of sublayers, on text that nobody owns unless one names another."""

from collections.abc import Sequence

from gatenorm.api.opening import ModelLike, session
from gatenorm.calibration.samples import SELF, Calibration
from gatenorm.errors import CalibrationError, fields_named
from gatenorm.evaluation.core.text import GENERIC
from gatenorm.fitting.fit import FittedPlan, fit as fit_plan
from gatenorm.progress import Progress
from gatenorm.records import REMOVE, Edits, Plan

# About 33,000 tokens, over fifty for each unknown of a map in a model 576 wide.
SAMPLES, WINDOW = 128, 256
# What is judged on besides, unless it is fitted on: enough to tell a map that harms, little to sample and to run.
JUDGES = (SELF,)
JUDGE_SAMPLES, JUDGE_WINDOW = 8, 128


def unfitted(plan: Plan) -> Edits:
    """The plan's new edits whose operations are yet to be fitted."""
    return Edits(edit for edit in plan.added if edit.operation != REMOVE and edit.artifact is None)


def fit_calibrations(sources: Sequence[Calibration | str]) -> list[Calibration]:
    """What to fit on, each source once; names stand for 128 windows of 256 tokens.

    Raises:
        CalibrationError: two of one name.
    """
    asked = [one if isinstance(one, Calibration) else Calibration(one, SAMPLES, WINDOW) for one in sources]
    names = [one.source for one in asked]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise CalibrationError("fit-source-twice", "is named twice", field="fit", given=twice)
    return asked


def fit(
    model: ModelLike,
    plan: Plan,
    sources: Sequence[Calibration | str] = (GENERIC,),
    *,
    judges: Sequence[Calibration | str] = JUDGES,
    family: str | None = None,
    device: str = "cpu",
    dtype: str = "auto",
    progress: Progress | None = None,
) -> FittedPlan:
    """Fit the operations of a plan: constants and linear maps in the place of sublayers.

    For a linear map the normed input ``x`` and the update ``u`` of the sublayer give ``A`` with the least
    ``sum |u - A x|^2 + r |A|^2`` in one pass of the unedited model. The ridge ``r`` is chosen on held-out tokens, and
    what does not do less damage than removal, by the divergence of predictions on held-out tokens and on those of the
    judges, is shrunk or removed plainly: ``plan.fit`` of the result says so. A session that works layer by layer
    compares no predictions. One session makes one pass for all operations that are fitted on the same tokens.

    Args:
        sources: what to fit on: ``generic`` (packaged public-domain text), ``self`` (text that the model samples),
            ``random``, a text file, or a :class:`Calibration`. Of several each is judged by a fit on the others.
            Names stand for 128 windows of 256 tokens.
        judges: what to judge on besides, as ``sources``; those that are sources already are left out. Names stand for 8
            windows of 128 tokens.
        family, device, dtype: as in :func:`gatenorm.session`.

    Raises:
        CalibrationError: a source that cannot be read, two of one name, too few tokens, or activations that are not
            finite.
        PlanError: an operation that cannot be fitted.

    Source: docs/replace.md; linear estimators of attention are Neural Block Linearization's (arXiv 2505.21077).
    """
    opened = session(model, family=family, device=device, dtype=dtype)
    asked = fit_calibrations(sources)
    with fields_named({"calibration": "fit", "samples": "fit_samples"}):
        samples = {one.source: opened.samples(one) for one in asked}
    others = {}
    if not opened.layer_by_layer and unfitted(plan):
        window = min(JUDGE_WINDOW, opened.layout.context or JUDGE_WINDOW)
        for one in judges:
            judge = one if isinstance(one, Calibration) else Calibration(one, JUDGE_SAMPLES, window)
            if judge.source not in samples:
                with fields_named({"calibration": "judge"}):
                    others[judge.source] = opened.samples(judge)
    layer_by_layer = opened.observe if opened.layer_by_layer else None
    return fit_plan(opened.model, plan, samples, others, progress, layer_by_layer, opened.fitted)
