"""What a variant is worth in words: where it pays, and where not."""

from __future__ import annotations

from gatenorm.audit.config import Worth
from gatenorm.audit.worth import worth
from gatenorm.records import Evidence, ModelIdentity

NOBODY = ModelIdentity("nobody", "llama", 4, "0", {})


def timed(engine: str, tokens: int, seconds: float) -> Evidence:
    protocol = {"engine": engine, "prompt_tokens": tokens, "batch": 1, "new_tokens": 8, "order": [engine]}
    figures = {"prefill_speedup": 1.0, "decode_speedup": 1.0, "decode_tokens_per_second": 8 / seconds}
    samples = [{"prefill": seconds / 2, "decode": seconds / 2}] * 2
    return Evidence("speed", NOBODY, (), figures, protocol, {"samples": samples}, 1.0)


def test_lengths_at_which_it_does_not_pay_are_told_by_engine():
    cases = [("transformers", 128, 1.0), ("llamacpp", 128, 1.0), ("llamacpp", 256, 1.0), ("llamacpp", 512, 0.5)]
    before = [timed(engine, tokens, 1.0) for engine, tokens, _ in cases]
    after = [timed(*case) for case in cases]
    assert worth(before, after, Worth())["sentence"] == (
        "A request of 512 prompt and 8 new tokens in llamacpp is 2.00 times as fast; "
        "with prompts of 128 in transformers and 128, 256 in llamacpp it does not pay."
    )


def test_where_nothing_was_timed_nothing_is_said():
    assert worth([], [], Worth()) == {}
