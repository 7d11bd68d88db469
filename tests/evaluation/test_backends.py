"""What answers the harness's requests: chosen by name, counted, opened once, refused in one line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

import gatenorm
from gatenorm.errors import EvaluationError, MissingExtraError
from gatenorm.evaluation.backends import backend, in_vllm
from gatenorm.evaluation.subject import Subject


def test_engines_are_known_by_name():
    assert backend("transformers").room == 1
    with pytest.raises(EvaluationError, match=r"--engine vlm answers no tasks; did you mean 'vllm'\?"):
        backend("vlm")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_an_engine_that_is_missing_is_named_before_anything_is_read():
    with pytest.raises(MissingExtraError, match=r"--engine vllm needs vllm, .*gatenorm\[vllm\]"):
        gatenorm.evaluate("demo", "zeroshot", "/no/such/directory", engine="vllm")


@pytest.mark.shared
def test_requests_are_counted_and_the_model_is_as_it_was_afterwards(shared: Path):
    subject = Subject.of_layout(gatenorm.open_model(shared / "models/stories260K"))
    told: list[tuple[int, int]] = []
    requests = [(("", ""), [1, 2, 3], [4]), (("", ""), [5], [6, 7])]
    with backend("transformers").answering(subject, lambda done, total: told.append((done, total))) as lm:
        counted = lm._loglikelihood_tokens
        answers = counted(requests, disable_tqdm=True)
    assert len(answers) == 2
    assert told[-1] == (2, 2)
    assert lm._loglikelihood_tokens != counted


def test_what_another_engine_opened_is_opened_once_and_closed(shared: Path):
    subject = Subject.of_layout(gatenorm.open_model("demo"))
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
    subject = Subject.of_module(model, None)  # type: ignore[arg-type]
    with pytest.raises(EvaluationError, match="vLLM reads directories"):
        in_vllm(subject)
