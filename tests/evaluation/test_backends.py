"""What answers the harness's requests: chosen by name, counted, opened once, refused in one line."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.errors import EvaluationError, MissingExtraError
from gatenorm.evaluation.core.lm_eval_adapters import backend, in_memory
from gatenorm.models.model import Model


def test_engines_are_known_by_name():
    assert backend("transformers").room == 1
    with pytest.raises(EvaluationError, match=r"--engine vlm answers no tasks; did you mean 'vllm'\?"):
        backend("vlm")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_an_engine_that_is_missing_is_named_before_anything_is_read():
    with pytest.raises(MissingExtraError, match=r"--engine vllm needs vllm, .*gatenorm\[vllm\]"):
        gatenorm.evaluate("demo", "zeroshot", "/no/such/directory", engine="vllm")


@pytest.fixture
def subject(shared: Path) -> Model:
    return Model.of_layout(gatenorm.open_model(shared / "models/stories260K"))


@pytest.mark.shared
def test_requests_are_counted_and_the_model_is_as_it_was_afterwards(subject: Model):
    opened = in_memory(subject)
    ours = replace(backend("transformers"), open=lambda _: opened)
    before = opened._loglikelihood_tokens, opened._model_call
    told: list[tuple[int, int]] = []
    requests = [(("", ""), [1, 2, 3], [4]), (("", ""), [5], [6, 7])]
    with ours.answering(subject, lambda done, total: told.append((done, total))) as lm:
        assert len(lm._loglikelihood_tokens(requests, disable_tqdm=True)) == 2
    assert told[-1] == (2, 2)
    assert (opened._loglikelihood_tokens, opened._model_call) == before


@pytest.mark.shared
@pytest.mark.parametrize("room", [1, -1])
def test_a_continuation_that_leaves_no_room_for_what_it_continues_is_refused(room: int, subject: Model):
    """lm-eval's class for vLLM would score its end as if it were the whole."""
    ours = replace(backend("transformers"), room=room)
    with ours.answering(subject, None) as lm:
        longest = lm.max_length + room - 1
        assert lm._loglikelihood_tokens([(("", ""), [1], [5] * longest)], disable_tqdm=True)
        with pytest.raises(EvaluationError, match=f"a continuation has {longest + 1} tokens"):
            lm._loglikelihood_tokens([(("", ""), [1], [5] * (longest + 1))], disable_tqdm=True)


@pytest.mark.shared
def test_what_an_engine_raises_of_a_request_is_one_line(subject: Model):
    def refuse(requests: object, *_: object, **__: object) -> None:
        raise ValueError("too long\nand more")

    opened = in_memory(subject)
    opened._model_call = refuse
    ours = replace(backend("transformers"), open=lambda _: opened, failures=(ValueError,))
    with ours.answering(subject, None) as lm, pytest.raises(EvaluationError, match=r"refused a request: too long$"):
        lm._loglikelihood_tokens([(("", ""), [1], [2])], disable_tqdm=True)


def test_what_another_engine_opened_is_opened_once_and_closed():
    subject = Model.of_layout(gatenorm.open_model("demo"))
    done: list[str] = []

    def make() -> tuple[Any, Any]:
        done.append("opened")
        return "engine", lambda: done.append("closed")

    assert subject.held(make) == subject.held(make) == "engine"
    subject.release()
    subject.release()
    assert done == ["opened", "closed"]


def test_vllm_takes_no_model_in_memory(tiny_models: Any):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_models("llama-mha"))
    subject = Model.of_module(model, None)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="live model is open in transformers: vllm reads directories"):
        gatenorm.evaluate(subject, "zeroshot", engine="vllm")


@pytest.mark.parametrize(("asked", "computed"), [("auto", "bfloat16"), ("float32", "float32")])
def test_the_type_that_vllm_computes_in_is_the_stored_one(asked: str, computed: str):
    """Its own choice would be half a type of what is stored; that of transformers on a CPU is float32."""
    assert Model.of_layout(gatenorm.open_model("demo"), dtype=asked, engine="vllm").computes_in == computed
