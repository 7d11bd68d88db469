"""vLLM's class for nemotron-nas models, able to begin without attention and to have a linear map in an MLP's place."""

import copy
from types import SimpleNamespace
from typing import Any

from torch import nn
from vllm.model_executor.layers.linear import ReplicatedLinear
from vllm.model_executor.models import nemotron_nas as stock


class LinearMap(nn.Module):
    """What ``replace_with_linear`` puts in an MLP's place: one matrix [width, width], whole on every device."""

    def __init__(self, width: int, bias: bool, quant_config: Any, prefix: str):
        super().__init__()
        self.linear = ReplicatedLinear(
            width, width, bias=bias, quant_config=quant_config, prefix=f"{prefix}.linear", return_bias=False
        )

    def forward(self, hidden_states: Any) -> Any:
        return self.linear(hidden_states)


class DeciLMDecoderLayer(stock.DeciLMDecoderLayer):
    """A decoder layer that can also be the first one without attention, or have a linear map in its MLP's place.

    vLLM carries the residual stream beside the last branch's output and adds the two in the next norm. It is the first
    attention that starts the stream; where there is none, nothing is there to add, and vLLM 0.32 fails ("too many
    values to unpack").
    """

    def __init__(
        self, config: Any, layer_idx: int, cache_config: Any = None, quant_config: Any = None, prefix: str = ""
    ):
        block = config.block_configs[layer_idx]
        linear = not block.ffn.no_op and getattr(block.ffn, "replace_with_linear", False)
        super().__init__(
            _without_mlp(config, layer_idx) if linear else config, layer_idx, cache_config, quant_config, prefix
        )
        if linear:
            self._is_no_op_ffn = False
            width, bias = config.hidden_size, getattr(config, "mlp_bias", False)
            self.mlp = LinearMap(width, bias, quant_config, f"{prefix}.mlp")
            self.post_attention_layernorm = stock.RMSNorm(width, eps=config.rms_norm_eps)

    def forward(self, positions: Any, hidden_states: Any, residual: Any) -> tuple[Any, Any]:
        if residual is not None or not self._is_no_op_attention or self._is_no_op_ffn:
            return super().forward(positions, hidden_states, residual)  # type: ignore[no-any-return]
        return self.mlp(self.post_attention_layernorm(hidden_states)), hidden_states


def _without_mlp(config: Any, layer: int) -> Any:
    """The configuration with no MLP in that block, which is all that vLLM's own class can build of it."""
    found = copy.copy(config)
    found.block_configs = list(config.block_configs)
    found.block_configs[layer] = SimpleNamespace(
        attention=config.block_configs[layer].attention, ffn=SimpleNamespace(no_op=True)
    )
    return found


class DeciLMForCausalLM(stock.DeciLMForCausalLM):
    """The stock model with such layers. It has the stock name, by which vLLM's messages and caches know it."""

    def _init_model(self, vllm_config: Any, prefix: str = "") -> Any:
        return stock.DeciModel(vllm_config=vllm_config, prefix=prefix, layer_type=DeciLMDecoderLayer)
