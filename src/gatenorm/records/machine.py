"""A machine as the cost model sees it: how fast it moves bytes and how fast it multiplies."""

from gatenorm.records.serialization import Value


class Machine(Value, frozen=True, kw_only=True, omit_defaults=True):
    """A machine to predict for.

    Attributes:
        bandwidth: bytes a second between memory and processor.
        rates: FLOP/s of matrix products by dtype.
        attention_rates: the same of attention kernels, where it was measured; else ``rates`` serves.
        memory: bytes of memory, or ``None``.
        overheads: seconds that an ``attention`` and an ``mlp`` sublayer, and an ``operation`` in the place of
            one, take whatever their size, where measured.
        source: where the figures come from.
    """

    name: str
    summary: str
    bandwidth: float
    rates: dict[str, float]
    source: str
    memory: float | None = None
    attention_rates: dict[str, float] = {}  # noqa: RUF012 - msgspec copies it
    overheads: dict[str, float] = {}  # noqa: RUF012

    def rate(self, dtype: str) -> float:
        """FLOP/s of products in that dtype; for one that is not listed, the slowest that is."""
        return self.rates.get(dtype, min(self.rates.values()))

    def attention_rate(self, dtype: str) -> float:
        """FLOP/s of attention in that dtype."""
        return self.attention_rates.get(dtype, self.rate(dtype))
