"""What a model's layers do in the tiny world: how far each attention turns the stream, what its removal costs."""

from dataclasses import dataclass

from gatenorm.analysis.curve import evaluation_samples
from gatenorm.calibration.shared_prefix import SharedPrefix
from gatenorm.criteria.ablation.leave_one_out import leave_one_out
from gatenorm.criteria.activations.cosine import cosine
from gatenorm.criteria.activations.norm_ratio import norm_ratio
from gatenorm.criteria.session import ScoringSession
from gatenorm.criteria.streams import stream_statistics
from gatenorm.demo.tasks import SPLIT
from gatenorm.demo.tinyworld import END, story_of
from gatenorm.evaluation.core.text import Text
from gatenorm.evaluation.tasks.perplexity import Protocol


def stories(count: int) -> Text:
    """Held-out stories, others than those that the evaluation's perplexity is taken on."""
    texts = [story_of(SPLIT, "layers", number)[0].text for number in range(count)]
    return Text("held-out stories", END + "".join(t + END for t in texts), "", "stories of tinyworld")


@dataclass(frozen=True)
class Sublayers:
    """The loss in nats per predicted token, and by layer what ``cosine``, ``norm-ratio`` and ``leave-one-out`` say."""

    loss: float
    cosine: tuple[float, ...]
    norm_ratio: tuple[float, ...]
    rise: tuple[float, ...]


def sublayers(session: ScoringSession, text: Text) -> Sublayers:
    """Measure every attention sublayer of a model on the stories of a text, each by itself."""
    samples = evaluation_samples(session.model, text, Protocol(separator=END))
    seen = stream_statistics(session.module, session.layout, samples)
    losses = SharedPrefix(session.model, samples)
    (whole,) = losses([()])
    rise = leave_one_out(losses, session.layout.attention_layers)
    return Sublayers(whole, *(tuple(of_one.values()) for of_one in (cosine(seen), norm_ratio(seen), rise)))
