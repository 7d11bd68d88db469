"""What a variant is worth in words: where it pays, and where not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from gatenorm.audit.judge.cost_benefit import cost_benefit
from gatenorm.audit.judge.gates import SPEED_UP, evaluate_gate, gates
from gatenorm.findings import Findings
from gatenorm.records import ModelIdentity
from gatenorm.records.audit import FAILS, INCONCLUSIVE
from gatenorm.records.evidence import PhaseTime, Sample, Speed, SpeedProtocol, Spread

NOBODY = ModelIdentity("nobody", "llama", 4, "0", {})


def timed(engine: str, tokens: int, *seconds: float) -> Speed:
    """Six rounds of the same, or those given."""
    rounds = seconds if len(seconds) > 1 else seconds * 6
    at = SpeedProtocol(engine=engine, prompt_tokens=tokens, batch=1, new_tokens=8, order=engine)
    samples = tuple(Sample(s / 2, s / 2, s / 2) for s in rounds)
    phase = PhaseTime(seconds=Spread.of([s / 2 for s in rounds]), speedup=Spread(1.0, 1.0, 1.0))
    return Speed(
        model=NOBODY,
        protocol=at,
        prefill=phase,
        decode=phase,
        decode_tokens_per_second=Spread.of([8 / s for s in rounds]),
        samples=samples,
    )


def sentence(before: list[Speed], after: list[Speed]) -> str:
    found = cost_benefit(before, after)
    assert found is not None
    return found.sentence


def test_lengths_at_which_it_does_not_pay_are_told_by_engine():
    cases = [("transformers", 128, 1.0), ("llamacpp", 128, 1.0), ("llamacpp", 256, 1.0), ("llamacpp", 512, 0.5)]
    before = [timed(engine, tokens, 1.0) for engine, tokens, _ in cases]
    after = [timed(*case) for case in cases]
    assert sentence(before, after) == (
        "It does not pay here: a request is 1.00 times as fast (1.00 to 1.00) at 128 + 8 tokens in transformers; "
        "with prompts of 512 in llamacpp it does."
    )


@pytest.mark.parametrize(
    ("seconds", "start", "said"),
    [
        ([0.8] * 6, "A request is", "1.25 times as fast (1.25 to 1.25) at 128 + 8 tokens in transformers."),
        ([0.8] * 8 + [1.25], "A request is", "1.25 times as fast (1.25 to 1.25)"),
        ([0.8] * 5, "Whether it pays is inconclusive", "1.25 times as fast (5 rounds, too few for an interval)"),
        ([0.8] * 5 + [1.25], "Whether it pays is inconclusive", "1.25 times as fast (0.80 to 1.25)"),
        ([0.8] * 5 + [0.99], "Whether it pays is inconclusive", "1.25 times as fast (1.01 to 1.25)"),  # the gate's rule
        ([1.0] * 6, "It does not pay here", "1.00 times as fast (1.00 to 1.00)"),
        ([1.02] * 5 + [0.8], "Whether it pays is inconclusive", "0.98 times as fast (0.98 to 1.25)"),
        ([1.0] * 5, "Whether it pays is inconclusive", "1.00 times as fast (5 rounds, too few for an interval)"),
    ],
)
def test_whether_it_pays_is_said_only_where_it_is_proven(seconds: list[float], start: str, said: str):
    before, after = timed("transformers", 128, *[1.0] * len(seconds)), timed("transformers", 128, *seconds)
    found = sentence([before], [after])
    assert found.startswith(start)
    assert said in found


def test_a_case_of_which_nothing_is_known_is_not_called_one_that_does_not_pay():
    before = [timed("transformers", tokens, 1.0) for tokens in (128, 512)]
    after = [timed("transformers", 128, 1.02, 1.02, 1.02, 1.02, 1.02, 0.8), timed("transformers", 512, 0.5)]
    assert sentence(before, after) == (
        "A request is 2.00 times as fast (2.00 to 2.00) at 512 + 8 tokens in transformers."
    )


def test_what_could_be_gained_at_most_is_said_where_it_was_profiled():
    before, after = timed("transformers", 128, 1.0), timed("transformers", 128, 1.0)
    after = replace(after, prefill=replace(after.prefill, ideal=1.25), decode=replace(after.decode, ideal=1.0))
    found = cost_benefit([before], [after])
    assert found is not None
    assert found.cases[0].request_ideal == pytest.approx(1 / (0.5 / 1.25 + 0.5))
    assert found.sentence.endswith("; at its ideal it would be 1.11 times.")


def test_the_longest_prompt_speaks_as_the_gate_does():
    before = [timed("transformers", tokens, 1.0) for tokens in (128, 512)]
    after = [timed("transformers", 128, 0.8), timed("transformers", 512, 0.5, 0.5, 0.5, 0.5, 0.5, 1.5)]
    assert sentence(before, after).startswith("Whether it pays is inconclusive: a request is 2.00 times")
    found = cost_benefit(before, after, least=1.3)
    assert found is not None
    assert [case.outcome for case in found.cases] == [FAILS, INCONCLUSIVE]


def test_of_two_engines_the_one_that_gains_least_is_quoted_as_the_gate_judges():
    cases = [("transformers", 512, 0.5), ("llamacpp", 128, 0.9), ("llamacpp", 512, 0.8)]
    before, after = [timed(engine, n, 1.0) for engine, n, _ in cases], [timed(*case) for case in cases]
    found = cost_benefit(before, after)
    assert found is not None
    assert (found.quoted.engine, found.quoted.prompt_tokens) == ("llamacpp", 512)
    assert found.quoted in found.cases
    gate = evaluate_gate(gates()[SPEED_UP], 1.02, Findings(tuple(before), tuple(after), ()))
    assert gate.value == found.quoted.request_speedup
    assert "llamacpp, 512 + 8 tokens" in gate.detail


def test_where_nothing_was_timed_nothing_is_said():
    assert cost_benefit([], []) is None
