"""What an audit needs to know of an evaluation besides the metric by which it judges: declared with the evaluation."""

from dataclasses import dataclass

from gatenorm.records.audit import StepName


@dataclass(frozen=True)
class AuditRole:
    """When an audit measures something, on how much, and what it says where it does not.

    Attributes:
        key: of the section ``evaluation``, which asks for it: data, or whether to measure it. An evaluation without a
            key of its own is asked for in ``others``.
        values: what to set that key to, for people.
        words: the values of it that are no file.
        off: the value of it that leaves the evaluation out, for one that is measured unless told otherwise.
        limit: the key that says how many items are taken.
        quick: of how many a first impression is taken.
        few: so many items are short work.
        options: the other keys of the section that it reads, called as those of a request.
        reads_text: whether only a model that reads ordinary text is asked.
        called: what it is called in the plan.
        lacking: what nobody has examined where it is left out.
        unasked: why it is left out where nothing asks for it.
        step: of the workflow, in which it is measured.
    """

    key: str = ""
    values: str = "on"
    words: tuple[str, ...] = ()
    off: str = ""
    limit: str = ""
    quick: int | None = None
    few: int = 0
    options: tuple[str, ...] = ()
    reads_text: bool = False
    called: str = ""
    lacking: str = ""
    unasked: str = "no file was given"
    step: StepName = StepName.TASKS
