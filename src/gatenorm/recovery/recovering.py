"""From a pruned checkpoint to a recovered one: adapters and maps trained on a text, written, and looked at again."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from gatenorm.checkpoint import open_store
from gatenorm.errors import RecoveryError, named, printable
from gatenorm.evaluation.core.text import Text
from gatenorm.families import Layout, detect_layout
from gatenorm.families.family import value
from gatenorm.files import check_apart, check_new_directory, new_directory, write_json
from gatenorm.progress import Progress
from gatenorm.records import RecoverySummary, to_json
from gatenorm.records.evidence import Recovery, RecoveryProtocol
from gatenorm.records.recovery_settings import MAPS, Settings
from gatenorm.recovery import merging, state as states
from gatenorm.recovery.corpus import Corpus, pack, split
from gatenorm.recovery.processes import Processes
from gatenorm.recovery.record import Recovered, RecoveryRecord
from gatenorm.recovery.student import Student, load_frozen, load_student
from gatenorm.recovery.training import Report, held_out_loss, train
from gatenorm.results import Fingerprint, check_same, versions
from gatenorm.surgery.card import recovered_card
from gatenorm.surgery.disk import RECOVERY_FILE
from gatenorm.surgery.operation import added_tensors


class NothingLearnedError(RecoveryError):
    """A training of which no step was better than the pruned model: there is nothing to write.

    Attributes:
        steps: how many were done.
        seconds: how long they took.
        diverged: why it ended early, if it did.
    """

    def __init__(self, name: str, state: states.State):
        self.steps, self.seconds, self.diverged = state.step, state.seconds, state.diverged
        why = f" ({state.diverged})" if state.diverged else ""
        what = "the only step" if state.step == 1 else f"none of {state.step} steps"
        better = "was no better" if state.step == 1 else "was better"
        super().__init__(
            "not-better",
            f"{what} {better} than {name} as it was{why}: nothing was written",
            hint=f"lower {named('learning_rate')}, or give more data",
        )


def recover(
    layout: Layout,
    out: Path,
    text: Text,
    settings: Settings,
    *,
    held_out: Text | None = None,
    parent: Layout | None = None,
    report: Report | None = None,
    writing: Progress | None = None,
) -> Recovered:
    """Train a pruned checkpoint's adapters and maps and write it, with them merged, as the new directory ``out``.

    As :func:`gatenorm.recover`, of texts that were read. A training that was stopped left its state beside ``out``.

    Raises:
        NothingLearnedError: no step was better than the pruned model; nothing is written, the state is taken away.
        Others: as there.
    """
    from gatenorm.models.loading import check_hardware, load_tokenizer

    _check(layout, parent, settings)
    together = Processes.here(settings.device)
    device = together.device
    check_hardware(device, settings.dtype)
    length = _length(layout, settings)
    key = _key(layout, text, held_out, parent, replace(settings, length=length), together)
    if (out / RECOVERY_FILE).is_file():
        finished = Recovered.read(out, already=True)
        check_same(finished.record.key, key, "holds another recovery", "give another directory", "out", out)
        return finished
    check_new_directory(out)
    check_apart(out, layout.checkpoint.directory)
    path = states.state_file(out)
    states.load(path, key)  # another recovery's is refused before anything is loaded
    tokenizer = load_tokenizer(layout.checkpoint.directory)
    train_text, watched = split(text) if held_out is None else (text, held_out)
    vocabulary = int(value(layout.config, layout.data, "vocab_size"))
    needed = settings.steps * settings.sequences * together.count
    corpus = pack(tokenizer, train_text, watched, settings, length, vocabulary, needed)
    teacher = None
    parent_loss = None
    if parent is not None:
        teacher = load_frozen(parent.checkpoint.directory, settings, device)
        _check_vocabulary(teacher, vocabulary, parent)
        if together.main:
            parent_loss = held_out_loss(teacher, corpus.held_out, settings.batch)
        teacher = teacher if settings.objective == "distill" else None
    student = load_student(layout, settings, device)
    # What is trained from here on is kept as these files'.
    for one in (layout, parent):
        if one is not None:
            one.checkpoint.check_unchanged()
    state = train(
        student.model,
        layout,
        corpus,
        settings,
        parent=teacher,
        processes=together,
        path=path,
        key=key,
        report=report,
    )
    del teacher
    if state.best.step == 0:
        # The same settings would end here again, and others would find the state in their way.
        if together.main:
            path.unlink(missing_ok=True)
        together.wait()
        raise NothingLearnedError(layout.checkpoint.name, state)
    if together.main:
        _write(layout, out, student, corpus, settings, state, key, parent, parent_loss, together, writing)
        path.unlink(missing_ok=True)
    together.wait()
    return Recovered.read(out, already=False)


def _write(
    layout: Layout,
    out: Path,
    student: Student,
    corpus: Corpus,
    settings: Settings,
    state: states.State,
    key: Fingerprint,
    parent: Layout | None,
    parent_loss: float | None,
    together: Processes,
    writing: Progress | None,
) -> None:
    added = student.added()
    trainable = sum(p.numel() for p in student.model.parameters() if p.requires_grad)
    best = state.best.step
    with new_directory(out, layout.nbytes) as temporary:
        if not student.maps:  # adapters that were trained beside maps are of no use without them
            merging.write_adapter(student.model, temporary / merging.ADAPTER, layout.checkpoint.name)
        summary = RecoverySummary(settings.objective, best, corpus.data.name)
        carried = merging.write_merged(layout, added, summary, temporary, writing)
        # What is stored is looked at, not what was trained: sums are rounded to the stored type.
        added.clear()
        student.release()  # two models at once may be more than there is memory for
        stored = load_frozen(temporary, settings, together.device)
        merged = held_out_loss(stored, corpus.held_out, settings.batch)
        written = detect_layout(open_store(temporary))
        evidence = Recovery.of_losses(
            state.start,
            state.best.held_out,
            merged,
            parent_loss,
            model=msgspec.structs.replace(written.identity(), name=printable(out.resolve().name)),
            edits=layout.edits,
            steps=state.step,
            best_step=best,
            tokens=state.step * settings.sequences * together.count * corpus.train.shape[1],
            trainable=trainable,
            protocol=RecoveryProtocol(
                settings=replace(settings, length=corpus.train.shape[1]),
                processes=together.count,
                device=settings.device,
                dtype=str(stored.dtype).removeprefix("torch."),
                held_out_windows=len(corpus.held_out),
                source=layout.identity(),
                parent=None if parent is None else parent.identity(),
            ),
            data=corpus.data,
            seconds=state.seconds,
            versions=versions(("peft", "accelerate")),
        )
        record = RecoveryRecord(evidence=evidence, history=tuple(state.history), key=key, diverged=state.diverged)
        write_json(temporary / RECOVERY_FILE, to_json(record))
        card = recovered_card(written, layout.checkpoint.name, evidence, carried)
        (temporary / "README.md").write_text(card, encoding="utf-8")


def _check(layout: Layout, parent: Layout | None, settings: Settings) -> None:
    name = layout.checkpoint.name
    if not layout.edits:
        hint = "give what gatenorm prune wrote, or study the budgets of a dense model"
        raise RecoveryError("not-pruned", f"{name} is dense, nothing was removed from it", hint=hint)
    if layout.checkpoint.quantised_by:
        problem = (
            f"{name} is quantised by {layout.checkpoint.quantised_by}, and what is trained cannot be merged into that"
        )
        raise RecoveryError("weights-quantised", problem, hint="prune and recover the unquantised model")
    if MAPS in settings.targets and not added_tensors(layout, layout.edits):
        raise RecoveryError(
            "nothing-to-train",
            f"{name} has nothing in the place of its sublayers",
            field="targets",
            given=MAPS,
            hint="replace them by linear maps or constants when you prune, or train adapters",
        )
    if settings.objective == "distill" and parent is None:
        raise RecoveryError(
            "parent-missing", "is missing", field="parent", expected="the unpruned model, from which distill learns"
        )
    if parent is not None and len(parent.edits) >= len(layout.edits):
        raise RecoveryError(
            "parent-pruned",
            "has lost as much",
            field="parent",
            given=parent.checkpoint.name,
            expected="the unpruned model",
        )


def _length(layout: Layout, settings: Settings) -> int:
    longest = layout.context
    length = settings.length_in(longest)
    if longest and length > longest:
        raise RecoveryError(
            "length-too-long", f"is longer than the model's {longest} positions", field="length", given=length
        )
    return length


def _key(
    layout: Layout,
    text: Text,
    held_out: Text | None,
    parent: Layout | None,
    settings: Settings,
    together: Processes,
) -> Fingerprint:
    """Everything that the outcome follows from; names of folders are no part of it."""
    protocol = {
        # How a text was put together names the field of its rows.
        "data": [text.sha256, text.protocol],
        "held_out": [held_out.sha256, held_out.protocol] if held_out else "the last part of the data",
        "processes": together.count,
        **to_json(settings),
    }
    stores = {"model": layout.checkpoint} | ({"parent": parent.checkpoint} if parent else {})
    return Fingerprint.of(protocol, {role: store.fingerprint() for role, store in stores.items()}, ("peft",))


def _check_vocabulary(teacher: Any, vocabulary: int, parent: Layout) -> None:
    size = int(teacher.config.get_text_config().vocab_size)
    if size != vocabulary:
        raise RecoveryError(
            "vocabularies-differ",
            f"has a vocabulary of {size}, the pruned model one of {vocabulary}",
            field="parent",
            given=parent.checkpoint.name,
            expected="the model that it was pruned from",
        )
