"""What an operation is: the function that takes a sublayer's place, what it stores, costs, and how exports write it."""

from __future__ import annotations

import builtins
import dis
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from gatenorm.errors import PlanError, RecordError
from gatenorm.extensions import Extension, extensions
from gatenorm.families import Layout, mlp_modules
from gatenorm.families.schema import Family
from gatenorm.records import ATTENTION, KINDS, MLP, SINGULAR, SUBLAYERS, Edit, Edits, OperationRecord, Sublayer

Weights = Mapping[str, npt.NDArray[np.float32]]
Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class ExportEntry:
    """How an export form writes an operation.

    ``settings`` are the entries of the block's sublayer, ``tensors`` the form's names for the operation's tensors,
    within the block. ``products`` are such names too, for the product of two of its tensors. The norm that a ``normed``
    operation reads is written as that of an attention. ``note`` is what whoever serves it should know.

    With ``own_block`` the operation is written in the place of the MLP of a block of its own, in front of what is left
    of its layer; ``settings`` are those of that MLP, and the norm is its norm. ``engines`` are those of the form that
    read it; empty for all of them.
    """

    settings: Mapping[str, object]
    tensors: Mapping[str, str] = field(default_factory=dict)
    products: Mapping[tuple[str, str], str] = field(default_factory=dict)
    note: str = ""
    own_block: bool = False
    engines: tuple[str, ...] = ()


class LeastSquares(Protocol):
    """What a fitted operation can ask for: solutions for the sublayer's updates ``u`` [width] from inputs ``x``.

    Inputs are the sublayer's own, or those of the projection that a ``folded`` operation is added to. ``intercept``
    says whether that has a bias.
    """

    @property
    def intercept(self) -> bool: ...

    def constant(self) -> npt.NDArray[np.float64]:
        """``c`` [width] with the least ``sum |u - c|^2``."""
        ...

    def linear(self) -> npt.NDArray[np.float64]:
        """``A`` [width, inputs] with the least ``sum |u - A x|^2`` and a ridge."""
        ...

    def affine(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """``A`` and ``c`` [width] with the least ``sum |u - A x - c|^2`` and a ridge on ``A``; of an intercept only."""
        ...

    def low_rank(self, rank: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """``up`` [width, rank] and ``down`` [rank, width] whose product takes the place of ``A``."""
        ...


# Tensors of an operation by name.
Solution = Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True)
class Operation:
    """What takes a sublayer's place.

    Attributes:
        summary: for people, in a few words.
        sublayers: those that it can replace.
        update: ``update(x, weights)``, what is added to the residual stream, ``[batch, tokens, width]``, for the input
            ``x`` of the same shape and the operation's own tensors by name; ``None`` adds nothing. Pruned directories
            hold a copy of its source, so it may use nothing but its arguments and what it imports itself.
        normed: whether ``x`` is the output of the norm in front of the attention, which then stays; otherwise it is
            the residual stream. Of the attention only.
        folded: whether its tensors, ``matrix`` [width, inner] and perhaps ``bias`` [width], are added to the output
            projection of an MLP (see :mod:`gatenorm.surgery.folding`), so that a model stores none for it. It has no
            ``update`` then. Of the attention only.
        shapes: shapes of the tensors that a model stores for it by name, for a residual stream of a width.
        participle: for people, what happened to the sublayer: "removed".
        at_rank: the same operation at a stated rank, which its name then carries (``linear:64``); ``None`` where it has
            none.
        fit: gives its tensors; ``None`` where they come from elsewhere, or there are none.
        exports: by form, how it is written, or why the form cannot hold it. A form that is not named cannot hold it.
            Without an ``update`` there is nothing to say: every form knows what to do without a sublayer.
    """

    summary: str
    participle: str = "replaced"
    sublayers: tuple[Sublayer, ...] = SUBLAYERS
    update: Callable[[Any, Mapping[str, Any]], Any] | None = None
    normed: bool = False
    folded: bool = False
    shapes: Callable[[int], Shapes] = lambda width: {}
    at_rank: Callable[[int], Operation] | None = None
    fit: Callable[[LeastSquares], Solution] | None = None
    exports: Mapping[str, ExportEntry | str] = field(default_factory=dict)

    def record(self, width: int) -> OperationRecord:
        """What the modelling file of a directory must know of it."""
        return OperationRecord(self.normed, self.shapes(width), self.folded)


def operations() -> Mapping[str, Extension]:
    """All operations by name."""
    return extensions("operations", ("gatenorm.surgery.operations",), "OPERATION", Operation)


def operation_named(name: str) -> Operation:
    """The operation of that name, at the rank that stands behind a colon.

    Raises:
        PlanError: there is none, or it has no rank.
    """
    base, colon, rank = name.partition(":")
    known = operations()
    if base not in known:
        raise PlanError.unknown("replace", base, known, "operation-unknown")
    found: Operation = known[base].load()
    if not colon:
        return found
    if found.at_rank is None:
        raise PlanError("rank-unused", f"has no rank, so that it is {base} alone", field="replace", given=name)
    if not (rank.isascii() and rank.isdecimal() and len(rank) < 10 and int(rank) > 0):
        raise PlanError("rank-wrong", "has no rank", field="replace", given=name, expected=f"such as {base}:64")
    return found.at_rank(int(rank))


def leaves_nothing(edit: Edit) -> bool:
    """Whether nothing is computed in the sublayer's place."""
    return operation_named(edit.operation).update is None


def operation_records(edits: Edits, width: int) -> dict[str, OperationRecord]:
    """What a directory with these edits says of the operations that change more than what they take out."""
    used = {edit.operation: operation_named(edit.operation) for edit in edits}
    return {name: one.record(width) for name, one in used.items() if one.update is not None or one.folded}


def check_described(layout: Layout) -> None:
    """Raise RecordError for a pruned checkpoint whose record describes its operations otherwise than they are.

    Operations that are not installed are believed: the checkpoint holds their functions.
    """
    said = dict(layout.pruned.operations) if layout.pruned else {}
    known = Edits(edit for edit in layout.edits if edit.operation.partition(":")[0] in operations())
    expected = operation_records(known, layout.width)
    others = {edit.operation for edit in layout.edits - known}
    wrong = next(
        (name for name in {**said, **expected} if name not in others and said.get(name) != expected.get(name)), ""
    )
    if wrong:
        problem = f"config.json describes the operation {wrong:.60} otherwise than it is"
        raise RecordError("record-contradicts", problem, hint="prune the model again")


def treatments(edits: Iterable[Edit]) -> dict[tuple[Sublayer, str], tuple[int, ...]]:
    """For people: the layers of each sublayer by what happened to it, such as ``("attention", "removed")``."""
    found: dict[tuple[Sublayer, str], tuple[int, ...]] = {}
    for edit in sorted(edits, key=lambda edit: SUBLAYERS.index(edit.sublayer)):
        key = edit.sublayer, operation_named(edit.operation).participle
        found[key] = (*found.get(key, ()), edit.layer)
    return found


def participles(edits: Iterable[Edit]) -> str:
    """For people: what happened to the sublayers, ``removed`` where there are none."""
    return " or ".join(dict.fromkeys(participle for _, participle in treatments(edits))) or "removed"


def place(data: Family, sublayer: Sublayer) -> str:
    """The submodule of a block under which the tensors of an operation in a sublayer's place are stored."""
    return data.block.attention[0] if sublayer == ATTENTION else mlp_modules(data)[-1]


def removed_modules(data: Family, edits: Iterable[Edit]) -> tuple[str, ...]:
    """The stock submodules that a block with these edits, all of one layer, lacks.

    Norms that stand on the residual stream itself (OPT's post-norm blocks) belong to neither sublayer, and stay. A norm
    in front of both (Falcon's parallel blocks) goes with the last of them.
    """
    by_sublayer = {edit.sublayer: edit for edit in edits}
    modules = data.block.attention if ATTENTION in by_sublayer else ()
    if MLP in by_sublayer:
        modules += data.block.branch if modules else mlp_modules(data)
    attention = by_sublayer.get(ATTENTION)
    if attention is not None and operation_named(attention.operation).normed:
        modules = tuple(name for name in modules if name != data.norms.input)
    return modules


def added_tensors(layout: Layout, edits: Edits) -> dict[str, tuple[Edit, str, tuple[int, ...]]]:
    """The tensors that operations store: full name to edit, own name and shape."""
    return {
        layout.tensor(edit.layer, f"{place(layout.data, edit.sublayer)}.{name}"): (edit, name, shape)
        for edit in edits
        for name, shape in operation_named(edit.operation).shapes(layout.width).items()
    }


def is_removed(layout: Layout, edits: Edits) -> Callable[[str], bool]:
    """Whether a checkpoint with its own edits and these lacks the tensor of a name that its source stores."""
    together = layout.edits | edits
    gone = tuple(
        layout.tensor(layer, module) + "."
        for layer in together.layers
        for module in removed_modules(layout.data, together.at(layer))
    )
    own = added_tensors(layout, layout.edits)
    return lambda name: name.startswith(gone) and name not in own


def check_operation(operation: str, kind: str) -> None:
    """Raise PlanError for an operation that does not exist, or cannot take the place of sublayers of that kind."""
    can = operation_named(operation).sublayers
    for sublayer in KINDS[kind]:
        if sublayer not in can:
            raise PlanError(
                "operation-not-for-sublayer",
                f"cannot take the place of an {SINGULAR[sublayer]}",
                field="replace",
                given=operation,
                expected=" or ".join(can),
            )


def fingerprint(weights: Weights) -> str:
    """The sha256 of an operation's tensors, by which an edit names them: its ``artifact``."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = np.ascontiguousarray(weights[name], np.float32)
        digest.update(f"{name} {list(values.shape)}\n".encode() + values.tobytes())
    return digest.hexdigest()


def check_weights(layout_width: int, edits: Edits, weights: Mapping[Edit, Weights]) -> None:
    """Raise PlanError for tensors that are not those that the operations of ``edits`` store: some are missing, have
    another shape or are not the ones that the edit names.
    """
    for edit in edits:
        operation, given = operation_named(edit.operation), weights.get(edit, {})
        shapes = {name: tuple(values.shape) for name, values in given.items()}
        expected = operation.shapes(layout_width)
        if operation.folded:  # their shapes are those of the projection, which whoever adds them looks at
            expected = {"matrix": (), **shapes} if {*shapes} <= {"matrix", "bias"} else {"matrix": ()}
        if shapes != dict(expected):
            problem = f"of {edit.operation} in layer {edit.layer} are {shapes}"
            raise PlanError("operation-tensors-wrong", problem, field="weights", expected=f"{dict(expected)}")
        if expected and edit.artifact is not None and edit.artifact != fingerprint(given):
            problem = f"of {edit.operation} in layer {edit.layer} are not those that the plan was made with"
            raise PlanError("operation-tensors-foreign", problem, field="weights")


def function_name(operation: str) -> str:
    """What the modelling file of a directory calls the ``update`` of an operation."""
    return "update_" + operation.partition(":")[0].replace("-", "_")


def update_source(operation: str) -> str:
    """The source of an operation's ``update``, renamed, to stand in the modelling file of a directory.

    Raises:
        PlanError: it uses names of its module, which a copy would lack.
    """
    update = operation_named(operation).update
    assert update is not None
    loaded = {one.argval for one in dis.get_instructions(update) if one.opname == "LOAD_GLOBAL"}
    used = sorted({*loaded, *update.__code__.co_freevars} - set(dir(builtins)))
    if used:
        problem = f"uses {', '.join(used)}, which a pruned directory lacks"
        hint = "import inside the function"
        raise PlanError("operation-not-self-contained", problem, field="replace", given=operation, hint=hint)
    source = textwrap.dedent(inspect.getsource(update))
    return source.replace(f"def {update.__name__}(", f"def {function_name(operation)}(", 1)
