"""How closely a model follows another one on somebody's own prompts."""

from collections.abc import Mapping

from gatenorm.records.evidence.base import Figure, PairedEvidence, Protocol
from gatenorm.records.serialization import Value


class WorkloadItem(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A prompt: what both models wrote, and how far apart their distributions are along ``positions`` tokens."""

    id: int
    prompt: str
    baseline_wrote: str
    model_wrote: str
    greedy_agreement: float
    positions: int
    kl: float
    top1: float
    nll: float | None = None
    baseline_nll: float | None = None


class WorkloadProtocol(Protocol, frozen=True, kw_only=True, omit_defaults=True):
    """How the prompts were read and continued."""

    new_tokens: int
    decoding: str
    chat_template: bool
    distributions: str
    order: str
    text: str = ""


class Workload(PairedEvidence, frozen=True, kw_only=True, tag="gatenorm/domain/1"):
    """Divergence ``kl`` in nats, and shares of equal choices; perplexities are those of the references, if any."""

    protocol: WorkloadProtocol
    count: int
    positions: int
    kl: Figure
    top1: float
    greedy_agreement: float
    greedy_same: float
    references: int = 0
    perplexity: float | None = None
    baseline_perplexity: float | None = None
    items: tuple[WorkloadItem, ...] = ()

    @property
    def paired_items(self) -> tuple[()]:
        """None: the record itself is the comparison."""
        return ()

    def numbers(self) -> Mapping[str, float]:
        kl = {"kl": self.kl.value, "kl_stderr": self.kl.stderr, "kl_low": self.kl.low, "kl_high": self.kl.high}
        figures = {name: value for name, value in kl.items() if value is not None}
        figures |= self.known("top1", "greedy_agreement", "greedy_same", "perplexity", "baseline_perplexity")
        figures |= {"items": float(self.count), "positions": float(self.positions)}
        return figures | ({"references": float(self.references)} if self.references else {})
