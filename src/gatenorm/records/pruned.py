"""What a pruned checkpoint says of itself: the ``gatenorm`` entry of its ``config.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from gatenorm.errors import RecordError
from gatenorm.records.edit import Edits, Layer
from gatenorm.records.plan import Plan
from gatenorm.records.serialization import Record, Value

# In front of the ``model_type`` of a pruned model.
PRUNED_PREFIX = "gatenorm_"


class BlockShape(Value, frozen=True, omit_defaults=True):
    """What a block is made of, and how its forward pass runs on what stays."""

    path: str  # of the block list in the causal LM
    attention: tuple[str, ...]  # the modules that go when the sublayer goes
    before: tuple[str, ...]  # modules on the residual stream, in front of the branch
    branch: tuple[str, ...]  # the MLP's, added to the stream; empty where MLPs are blocks of their own
    after: tuple[str, ...]  # modules on the stream
    dropout: str | None  # key
    returns: Literal["tensor", "tuple"]  # what its forward hands back
    multiplier: str | Mapping[str, str] | None = None  # key of a factor on what branches add; perhaps by sublayer
    mlp_returns: Literal["tensor", "tuple"] = "tensor"  # ``tuple`` where the MLP hands back more than the stream
    by_position: bool = False  # the forward pass takes entries of lists by layer by a block's position among all
    # A block without attention keeps its forward pass and its number: it holds more than attention and MLP, or the
    # config counts blocks as no renumbering could.
    in_place: bool = False
    beside: tuple[str, ...] = ()  # modules of the branch whose outputs are added to the last one's


class BlockRecord(BlockShape, frozen=True, kw_only=True, omit_defaults=True):
    """What a model class must know to build and run a block with edits: modules of the MLP, and the attention's norm.

    ``parallel`` says that the attention and the MLP read the same input.
    """

    mlp: tuple[str, ...]
    norm: str | None
    parallel: bool


class OperationRecord(Value, frozen=True, omit_defaults=True):
    """What must be known to build an operation that does more than take something out.

    ``normed`` says that its input is the output of the norm in front of the attention, ``tensors`` are the shapes of
    the tensors that it stores. ``folded`` says that it has none of its own: it lies in the weights of an MLP.
    """

    normed: bool
    tensors: Mapping[str, tuple[int, ...]]
    folded: bool = False


class RecoverySummary(Record, frozen=True, tag="gatenorm/recovery-summary/1"):
    """What a model says of its training after pruning, wherever it goes: the objective, for how long, on what data."""

    objective: str
    steps: int
    data: str


class PrunedRecord(Record, frozen=True, omit_defaults=True, tag="gatenorm/pruned/1"):
    """The edits that were carried out on a model, and what is needed to build it.

    ``layers`` counts the layers of the original model, ``block`` describes its blocks and ``operations`` what stands
    in the place of edited sublayers, ``original`` holds what its config said of layers where blocks are made after
    their number (see ``modeling_gatenorm.py``), ``recovery`` summarises a training after pruning.
    """

    base_model_type: str
    layers: Layer
    edits: Edits
    block: BlockRecord
    plan: Plan
    operations: Mapping[str, OperationRecord] = {}
    recovery: RecoverySummary | None = None
    original: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        unknown = [layer for layer in self.edits.layers if layer >= self.layers]
        if unknown:
            raise ValueError(f"there is no layer {unknown[0]}: the model has {self.layers}")
        for edited in (self.edits.attention, self.edits.mlp):
            if len(edited) == self.layers:
                raise ValueError("no sublayer of a kind is left: at least one must stay")

    def checked(self) -> PrunedRecord:
        """Itself.

        Raises:
            RecordError: the edits are not those of the plan: which of them were carried out?
        """
        if self.plan.edits != self.edits:
            raise RecordError("record-contradicts", "the record of a pruned model: its edits are not those of its plan")
        return self
