"""Pruned models compute what the stock model does with the same attentions silenced; bad records are refused."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForCausalLM

from gatenorm.records import Edits
from gatenorm.surgery import modeling_gatenorm as modeling
from gatenorm.surgery.live import edit_model
from tests.surgery.pruned_models import (
    LAYERS,
    SHAPES,
    blocks_of,
    build,
    pruned_config,
    silenced,
    write_pruned,
)
from tests.surgery.silent_attention import (
    FULL,
    assert_same_text,
    every_drop,
    every_shape,
    files_of,
    full,
    load,
    padded_batch,
    tokens,
    with_attention,
)


@every_shape
@every_drop
def test_logits_hidden_states_and_modules(name, drop, directories):
    stock, pruned, ids = build(name), load(directories(name, drop)), tokens(2, 17)
    with torch.no_grad(), silenced(stock, name, drop):
        expected = stock(ids, output_hidden_states=True)
    with torch.no_grad():
        found = pruned(ids, output_hidden_states=True)
    torch.testing.assert_close(found.logits, expected.logits, atol=1e-5, rtol=1e-5)
    assert len(found.hidden_states) == len(expected.hidden_states) == LAYERS + 1
    torch.testing.assert_close(found.hidden_states, expected.hidden_states, atol=1e-5, rtol=1e-5)
    assert len(found.past_key_values.layers) == LAYERS - len(drop) == pruned.config.num_hidden_layers

    # The silenced attention really mattered: the test would pass for any model otherwise.
    with torch.no_grad():
        assert (stock(ids).logits - expected.logits).abs().max() > 1e-2

    assert set(pruned.state_dict()) == set(stock.state_dict()) - {
        key
        for key in stock.state_dict()
        for index in drop
        for module in SHAPES[name].block["attention"]
        if key.startswith(f"{SHAPES[name].block['path']}.{index}.{module}.")
    }
    blocks = blocks_of(pruned, SHAPES[name])
    assert len(blocks) == LAYERS
    for index, block in enumerate(blocks):
        assert isinstance(block, modeling.AttentionFree) is (index in drop)
        assert isinstance(block, type(blocks_of(stock, SHAPES[name])[index]))
        for module in SHAPES[name].block["attention"]:
            assert hasattr(block, module) is (index not in drop)


@every_shape
def test_padded_batch_decodes_alike(name, directories):
    drop = (0, 3)
    past = assert_same_text(load(directories(name, drop)), build(name), name, drop, padded_batch())
    assert len(past.layers) == LAYERS - len(drop)


@with_attention
@every_drop
def test_decoding_with_either_attention_and_cache(name, drop, attention, directories):
    stock = build(name, attn_implementation=attention)
    pruned = load(directories(name, drop), attn_implementation=attention)
    assert pruned.config._attn_implementation == attention
    for options in ({}, {"cache_implementation": "static"}, {"num_beams": 3}, {"use_cache": False}):
        past = assert_same_text(pruned, stock, name, drop, padded_batch(), **options)
        assert past is None or len(past.layers) == LAYERS - len(drop)


@full
def test_cache_can_be_cropped_and_continued(name, directories):
    drop, ids, other = (0, 3), tokens(1, 9), tokens(1, 4, seed=5)
    if name in ("gemma2",):
        ids = ids[:, :4]  # a sliding cache forgets what lies outside its window: it can be cropped only before that
    pruned, stock = load(directories(name, drop)), build(name)
    with torch.no_grad():
        past = pruned(ids, use_cache=True).past_key_values
        past.crop(-2)
        found = pruned(other, past_key_values=past, use_cache=True).logits
        with silenced(stock, name, drop):
            expected = stock(torch.cat([ids[:, :-2], other], dim=1)).logits[:, -4:]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_attentions_are_those_of_the_kept_layers(directories):
    drop = (0, 3)
    stock, pruned = build("llama", attn_implementation="eager"), load(directories("llama", drop))
    pruned.set_attn_implementation("eager")
    ids = tokens(1, 7)
    with torch.no_grad(), silenced(stock, "llama", drop):
        expected = stock(ids, output_attentions=True).attentions
        found = pruned(ids, output_attentions=True).attentions
    kept = [expected[index] for index in range(LAYERS) if index not in drop]
    torch.testing.assert_close(found, tuple(kept), atol=1e-6, rtol=1e-5)


def test_layer_list_is_physical_but_for_the_stages():
    model = edit_model(build("llama"), Edits.of("attention", (0, 3)), SHAPES["llama"].family())
    layers = model.model.layers
    assert len(layers) == len(list(layers)) == LAYERS
    assert [isinstance(layers[index], modeling.AttentionFree) for index in range(-1, 5)] == [
        index in (0, 3) for index in (5, 0, 1, 2, 3, 4)
    ]
    assert [type(stage) for stage in layers[:4]] == [modeling.Stage] * 4
    assert layers[:4][0].self_attn is layers[1].self_attn
    assert len(layers[:5]) == 5
    assert list(layers[1:4]) == list(layers)[1:4]
    # Nothing dropped: a plain slice.
    assert len(modeling.PhysicalLayers(list(layers))[:LAYERS]) == LAYERS


def test_layers_are_not_cut_for_pipeline_parallelism():
    """vLLM would cut them by the number of attentions; any other replacement of a block is everyone's own affair."""

    class PPMissingLayer(torch.nn.Identity):
        pass

    model = edit_model(build("llama"), Edits.of("attention", (0, 3)), SHAPES["llama"].family())
    before = str(model)
    with pytest.raises(ValueError, match="use tensor parallelism"):
        model.model.layers[5] = PPMissingLayer()
    assert str(model) == before
    block = copy.deepcopy(model.model.layers[5])
    model.model.layers[5] = block
    assert model.model.layers[5] is model.model.layers[:4][-1].block is block


def test_head_masks_of_transformers_4_are_one_a_block():
    """tests/engines runs the models of transformers 4; this is what stands in for its method."""
    assert modeling.head_masks(LAYERS, None, 4) == [None] * LAYERS
    with pytest.raises(ValueError, match="4 attentions in 6 blocks takes none"):
        modeling.head_masks(LAYERS, torch.ones(4, 2), 4)


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2"])
def test_compiles_to_one_graph(name, directories):
    pruned, ids = load(directories(name, (0, 3))), tokens(1, 8)
    compiled = torch.compile(pruned, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(
            compiled(ids, use_cache=False).logits, pruned(ids, use_cache=False).logits, atol=1e-5, rtol=1e-5
        )


def test_attention_implementation_can_be_set_where_it_can_on_the_stock_model(directories):
    for name in FULL:
        stock, pruned = build(name), load(directories(name, (0, 3)))
        assert pruned._can_set_attn_implementation() is stock._can_set_attn_implementation() is (name != "gpt-neo")


def test_base_model_and_causal_model_agree(directories):
    for name in ("llama", "opt", "gpt-neo"):
        directory, ids = directories(name, (0, 3)), tokens(1, 9)
        base, causal = AutoModel.from_pretrained(directory).eval(), load(directory)
        assert type(base).__name__.startswith("Gatenorm")
        with torch.no_grad():
            found = base(ids, output_hidden_states=True).hidden_states
            torch.testing.assert_close(found, causal(ids, output_hidden_states=True).hidden_states)


# Bad configurations


def edited(**changes: Any) -> Any:
    def edit(config: dict[str, Any]) -> None:
        for key, value in changes.items():
            (config["gatenorm"] if key in config["gatenorm"] else config)[key] = value

    return edit


def without(*layers: int) -> list[dict[str, Any]]:
    return [{"layer": layer, "sublayer": "attention", "operation": "remove"} for layer in layers]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (edited(gatenorm=None), "no 'gatenorm' record"),
        (edited(schema="gatenorm/pruned/3"), "'gatenorm/pruned/3' .* expected 'gatenorm/pruned/1'"),
        (edited(edits=without(2, 6)), "0 to 5"),
        (edited(edits=without(2, -1)), "0 to 5"),
        (edited(edits=without(2, 2)), "each once"),
        (edited(edits=without(*range(6))), "at least one must stay"),
        (edited(edits=without(2)), "num_hidden_layers is 4: expected the 5"),
        (edited(layers=7), "num_hidden_layers is 4: expected the 5"),
        (edited(block=dict(SHAPES["llama"].block, branch=["norm", "mlp"])), "has no 'norm'"),
    ],
)
def test_bad_configurations_are_refused_in_one_line(edit, message, tmp_path):
    write_pruned(build("llama"), "llama", (2, 3), tmp_path, edit)
    with pytest.raises(ValueError, match=message) as error:
        AutoModelForCausalLM.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_a_configuration_without_a_record_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="no 'gatenorm' record"):
        modeling.GatenormLlamaConfig().save_pretrained(tmp_path)
    assert not files_of(tmp_path)


class Returns:
    """Forward passes as they are written, or formatted, in one version of Transformers or another."""

    class Tensor:
        def forward(self, hidden_states):
            residual, _ = hidden_states, None
            return residual

    class OverLines:
        def forward(self, hidden_states):
            return (
                hidden_states,
                None,
            )

    class Named:
        def forward(self, hidden_states, weights=None):
            result = (hidden_states,)
            result += (weights,)
            return result

    class Summed:
        def forward(self, hidden_states, rest=()):
            return (hidden_states,) + rest  # noqa: RUF005

    class Called:
        def forward(self, hidden_states):
            return self.norm(hidden_states, (1, 2))


@pytest.mark.parametrize(
    ("block", "expected"),
    [("Tensor", False), ("OverLines", True), ("Named", True), ("Summed", True), ("Called", False)],
)
def test_what_a_block_returns_is_read_from_its_syntax(block, expected):
    assert modeling.returns_tuple(getattr(Returns, block), not expected) is expected


def test_nothing_dropped_is_the_stock_model(tmp_path):
    stock = build("llama")
    write_pruned(stock, "llama", (), tmp_path)
    assert_same_text(load(tmp_path), stock, "llama", (), padded_batch())
    assert pruned_config(stock, "llama", ())["num_hidden_layers"] == LAYERS


def test_what_blocks_return_is_read_from_their_code():
    class Tensor:
        def forward(self, x):
            """Return x, changed."""
            return x

    class Pair:
        def forward(self, x):
            return x, None

    class Outputs:
        def forward(self, x):
            outputs = (x,)
            return outputs

    assert [modeling.returns_tuple(c, default=False) for c in (Tensor, Pair, Outputs)] == [False, True, True]
    assert modeling.returns_tuple(type("Unknown", (), {"forward": len}), default=True) is True
