"""What was seen when the held-out text was looked at during a training."""

from gatenorm.records import Value


class Look(Value, frozen=True, kw_only=True, omit_defaults=True):
    """After ``step`` steps: losses in nats per token, ``seconds`` since the beginning.

    ``loss`` is that of training, the mean since the look before; there is none before the first step.
    """

    step: int
    held_out: float
    loss: float | None = None
    seconds: float
