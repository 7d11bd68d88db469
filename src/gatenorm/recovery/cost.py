"""What a training costs."""

from gatenorm.models.architecture import Work
from gatenorm.records.recovery_settings import Settings


def training_passes(settings: Settings, context: int | None) -> dict[Work, float]:
    """Passes through a model that takes ``context`` tokens: backwards costs twice as much as forwards.

    To ``distill`` takes the parent's forwards beside it.
    """
    each = 4.0 if settings.objective == "distill" else 3.0
    return {Work.prefill(settings.length_in(context), settings.batch): each * settings.accumulation * settings.steps}
