"""What answers lm-eval's requests: chosen by name, counted, opened once, refused in one line."""

from __future__ import annotations

import importlib.util
import sys
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import gatenorm
from gatenorm.engines import engine_named, engines, engines_that
from gatenorm.errors import MissingExtraError
from gatenorm.models.model import Model
from tests.errors import refused


def test_engines_are_known_by_name_and_by_what_they_can_do():
    assert {"llamacpp", "mlx", "transformers", "vllm"} <= {*engines()}
    assert [one.name for one in engines_that("answers")] == ["transformers", "vllm"]
    with refused("engine-unable", "engine"):
        engine_named("llamacpp", "answers")
    with refused("engine-unknown", "engine") as unknown:
        engine_named("vlm", "answers")
    assert unknown.value.hint.startswith("did you mean 'vllm'?")


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_an_engine_that_is_missing_is_named_before_anything_is_read():
    with refused("missing-extra", kind=MissingExtraError) as caught:
        gatenorm.evaluate("demo", "zeroshot", "/no/such/directory", engine="vllm")
    assert caught.value.args[1:] == ("vllm", "vllm")


@pytest.fixture
def subject(shared: Path) -> Model:
    return Model.of_layout(gatenorm.open_model(shared / "models/stories260K"))


@pytest.mark.shared
def test_requests_are_counted(subject: Model):
    lm = engine_named("transformers").harness_model(subject)
    told: list[tuple[int, int]] = []
    lm.tell(lambda done, total: told.append((done, total)))
    requests = [(("", ""), [1, 2, 3], [4]), (("", ""), [5], [6, 7])]
    assert len(lm._loglikelihood_tokens(requests, disable_tqdm=True)) == 2
    assert told[-1] == (2, 2)


@pytest.mark.shared
@pytest.mark.parametrize("spare", [1, -1])
def test_a_continuation_that_leaves_no_room_for_what_it_continues_is_refused(spare: int, subject: Model):
    """lm-eval's class for vLLM would score its end as if it were the whole."""
    lm = engine_named("transformers").harness_model(subject)
    lm.spare_tokens = spare
    longest = lm.max_length + spare - 1
    assert lm._loglikelihood_tokens([(("", ""), [1], [5] * longest)], disable_tqdm=True)
    with refused("continuation-too-long"):
        lm._loglikelihood_tokens([(("", ""), [1], [5] * (longest + 1))], disable_tqdm=True)


class TestVllm:
    """The class for vLLM beside packages that only look like vLLM and say what they were asked."""

    @pytest.fixture
    def answering(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        if importlib.util.find_spec("vllm") is not None:
            pytest.skip("vLLM itself is installed")
        from gatenorm.engines.vllm import harness

        def fake(name: str, **contents: Any) -> None:
            module = ModuleType(name)
            vars(module).update(contents)
            monkeypatch.setitem(sys.modules, name, module)

        fake("vllm", __version__="0.32.1", LLM=object, SamplingParams=object, TokensPrompt=object, __path__=[])
        fake("vllm.lora", __path__=[])
        fake("vllm.lora.request", LoRARequest=object)
        fake("vllm.renderers", __path__=[])
        fake("vllm.renderers.hf", resolve_chat_template=None)
        fake("vllm.tokenizers", get_tokenizer=None)
        harness._class.cache_clear()
        yield harness._class()
        harness._class.cache_clear()

    def test_every_build_of_vllm_is_accepted_and_nothing_outside_is_changed(self, answering: Any):
        assert {kind.__name__ for kind in answering.__mro__} >= {"VLLM", "TemplateLM", "Answering"}
        asked = sys.modules[metadata.__name__].version
        assert asked is metadata.version
        with pytest.raises(metadata.PackageNotFoundError):
            metadata.version("vllm")
        assert "lm_eval.models.vllm_causallms" not in sys.modules

    def test_no_bar_is_asked_for(self, answering: Any, monkeypatch: pytest.MonkeyPatch):
        """Not even by lm-eval's own calls, which ask for one of the batches of a rolling log-likelihood."""
        ways = ("loglikelihood", "loglikelihood_rolling", "generate_until", "_loglikelihood_tokens")
        asked: list[bool] = []
        for way in ways:
            monkeypatch.setattr(
                answering.__mro__[2], way, lambda _, requests, disable_tqdm=False: asked.append(disable_tqdm) or []
            )
        lm = answering.__new__(answering)
        lm._max_length = 8
        for way in ways[:3]:
            assert getattr(lm, way)([]) == []
        assert lm._loglikelihood_tokens(requests=[], disable_tqdm=False) == []
        assert asked == [True] * 4

    def test_what_it_raises_of_a_request_is_one_line(self, answering: Any, monkeypatch: pytest.MonkeyPatch):
        def refuse(*_: object, **__: object) -> None:
            raise ValueError("too long\nand more")

        monkeypatch.setattr(answering.__mro__[2], "_model_generate", refuse)
        with refused("engine-refuses-request") as error:
            answering.__new__(answering)._model_generate([[1, 2]])
        assert str(error.value) == "vLLM refused a request: too long"


def test_what_another_engine_opened_is_opened_once_and_closed():
    subject = Model.of_layout(gatenorm.open_model("demo"))
    done: list[str] = []

    def make() -> tuple[Any, Any]:
        done.append("opened")
        return "engine", lambda: done.append("closed")

    assert subject.opened_in_engine(make) == subject.opened_in_engine(make) == "engine"
    subject.release()
    subject.release()
    assert done == ["opened", "closed"]


def test_vllm_takes_no_model_in_memory(tiny_models: Any):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_models("llama-mha"))
    with refused("engine-open-elsewhere"):
        gatenorm.evaluate(Model.of_module(model, None), "zeroshot", engine="vllm")


@pytest.mark.parametrize(("asked", "computed"), [("auto", "bfloat16"), ("float32", "float32")])
def test_the_type_that_vllm_computes_in_is_the_stored_one(asked: str, computed: str):
    """Its own choice would be half a type of what is stored; that of transformers on a CPU is float32."""
    assert Model.of_layout(gatenorm.open_model("demo"), dtype=asked, engine="vllm").computes_in == computed
