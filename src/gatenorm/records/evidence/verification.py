"""How far what an engine computes from an export is from what its source computes."""

from collections.abc import Mapping
from typing import ClassVar

import msgspec

from gatenorm.records.evidence.base import Data, Evidence, Protocol


class VerificationProtocol(Protocol, frozen=True, kw_only=True, omit_defaults=True):
    """What was asked, and how the answers were judged: by the figure ``judged_by``, at most ``tolerance`` nats."""

    exported: str
    form: str
    reference: str
    prompts: str
    new_tokens: int
    judged_by: str
    tolerance: float
    near_tie: float


class Verification(Evidence, frozen=True, kw_only=True, tag="gatenorm/verify/1"):
    """How far an engine's figures are from the reference's.

    Attributes:
        largest_difference: of two log-probabilities, in nats.
        mean_kl: divergence of the engine from the reference, in nats per token; never below 0.
        other_choices: tokens that are not the reference's likeliest although no near tie excuses them.
        tensors, wrong_tensors: of a GGUF file.
        row_errors: of a GGUF file, the largest error of a row, relative to it, by type.
        texts, texts_cut_differently: where the engine and the reference have a tokenizer.
        cached_layers: where the engine tells.
        faults: what is beyond the tolerance, one line each; empty when the two agree.
    """

    comparable: ClassVar[bool] = False
    protocol: VerificationProtocol
    data: Data = Data(name="random tokens")
    largest_difference: float
    mean_kl: float
    tokens: int
    other_choices: int
    near_ties: int
    tensors: int | None = None
    wrong_tensors: int | None = None
    row_errors: dict[str, float] = msgspec.field(default_factory=dict)
    texts_cut_differently: int | None = None
    texts: int | None = None
    cached_layers: int | None = None
    faults: tuple[str, ...] = ()

    def facts(self) -> Mapping[str, object]:
        return {**self.protocol.facts(), "faults": list(self.faults)}

    def numbers(self) -> Mapping[str, float]:
        named = ("largest_difference", "mean_kl", "tokens", "other_choices", "near_ties", "tensors", "wrong_tensors")
        errors = {f"row_error_{kind}": error for kind, error in self.row_errors.items()}
        return self.known(*named) | errors | self.known("texts_cut_differently", "texts", "cached_layers")
