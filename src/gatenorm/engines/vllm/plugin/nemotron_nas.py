"""vLLM's class for nemotron-nas models, able to begin with a layer that has no attention."""

from __future__ import annotations

from typing import Any

from vllm.model_executor.models import nemotron_nas as stock


class DeciLMDecoderLayer(stock.DeciLMDecoderLayer):
    """A decoder layer that can also be the first one without attention.

    vLLM carries the residual stream beside the last branch's output and adds the two in the next norm. It is the first
    attention that starts the stream; where there is none, nothing is there to add, and vLLM 0.32 fails ("too many
    values to unpack").
    """

    def forward(self, positions: Any, hidden_states: Any, residual: Any) -> tuple[Any, Any]:
        if residual is not None or not self._is_no_op_attention or self._is_no_op_ffn:
            return super().forward(positions, hidden_states, residual)  # type: ignore[no-any-return]
        return self.mlp(self.post_attention_layernorm(hidden_states)), hidden_states


class DeciLMForCausalLM(stock.DeciLMForCausalLM):
    """The stock model with such layers. It has the stock name, by which vLLM's messages and caches know it."""

    def _init_model(self, vllm_config: Any, prefix: str = "") -> Any:
        return stock.DeciModel(vllm_config=vllm_config, prefix=prefix, layer_type=DeciLMDecoderLayer)
