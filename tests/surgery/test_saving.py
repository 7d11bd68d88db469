"""What pruned models are written as, with gatenorm and where it is not installed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel

from tests.surgery.pruned_models import (
    build,
    pruned_tensors,
    silenced,
    write_pruned,
)
from tests.surgery.silent_attention import (
    FULL,
    files_of,
    load,
    tokens,
)


@pytest.mark.parametrize("name", [*FULL, "falcon-40b", "opt-post-norm"])
@pytest.mark.parametrize("size", ["50GB", "20KB"])
def test_save_and_load_again(name, size, directories, tmp_path):
    source, drop = directories(name, (0, 3)), (0, 3)
    model = load(source)
    model.save_pretrained(tmp_path, max_shard_size=size)
    before, after = (json.loads((d / "config.json").read_text()) for d in (source, tmp_path))
    for key in ("model_type", "architectures", "auto_map", "gatenorm"):
        assert after[key] == before[key]
    assert (tmp_path / "modeling_gatenorm.py").read_bytes() == (source / "modeling_gatenorm.py").read_bytes()
    assert json.loads((tmp_path / "gatenorm.json").read_text()) == before["gatenorm"]["plan"]
    assert "ä model" in (tmp_path / "gatenorm.json").read_text(encoding="utf-8")
    assert (tmp_path / "model.safetensors.index.json").exists() is (size == "20KB")
    names = {key for shard in tmp_path.glob("*.safetensors") for key in safe_open(shard, "pt").keys()}  # noqa: SIM118
    assert names == set(pruned_tensors(build(name), name, drop))
    with torch.no_grad():
        assert torch.equal(load(tmp_path)(tokens(1, 9)).logits, model(tokens(1, 9)).logits)


def test_base_model_saves_a_directory_for_every_auto_class(directories, tmp_path):
    AutoModel.from_pretrained(directories("llama", (0, 3))).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert set(config["auto_map"]) == {"AutoConfig", "AutoModel", "AutoModelForCausalLM"}
    assert {"modeling_gatenorm.py", "gatenorm.json"} <= files_of(tmp_path)


REMOTE = """
import json, sys
sys.modules["gatenorm"] = None
try:
    import gatenorm
except ImportError:
    pass
else:
    raise SystemExit("gatenorm is here")
import torch
from transformers import AutoModel, AutoModelForCausalLM
torch.set_num_threads(1)
ids, results = torch.load(sys.argv[1]), {}
for source in sys.argv[2:]:
    model, report = AutoModelForCausalLM.from_pretrained(source, trust_remote_code=True, output_loading_info=True)
    assert not any(report.values()), report
    assert type(model).__module__.startswith("transformers_modules"), type(model)
    with torch.no_grad():
        results[source] = model(ids).logits, model.generate(ids, max_new_tokens=5, do_sample=False)
    base = AutoModel.from_pretrained(source, trust_remote_code=True)
    assert len(base(ids, output_hidden_states=True).hidden_states) == 7
    model.save_pretrained(source + "-again")
torch.save(results, sys.argv[1])
try:
    AutoModelForCausalLM.from_pretrained(sys.argv[2], trust_remote_code=False)
except ValueError as error:
    assert "trust_remote_code=True" in str(error), error
else:
    raise SystemExit("its code ran without being trusted")
"""


def python(code: str, *arguments: Any, **environment: str) -> str:
    """Run code in a process of its own, offline; what it printed."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_loads_and_saves_where_gatenorm_is_not_installed(tmp_path):
    drop, ids, sources = (0, 3), tokens(2, 9), []
    for name in ("llama", "gemma2", "gpt-neo", "falcon-alibi"):
        sources.append(write_pruned(build(name), name, drop, tmp_path / name))
    torch.save(ids, tmp_path / "ids.pt")
    python(REMOTE, tmp_path / "ids.pt", *sources, HF_MODULES_CACHE=str(tmp_path / "modules"))
    results = torch.load(tmp_path / "ids.pt")
    for source in sources:
        logits, text = results[str(source)]
        stock = build(source.name)
        with torch.no_grad(), silenced(stock, source.name, drop):
            torch.testing.assert_close(logits, stock(ids).logits, atol=1e-5, rtol=1e-5)
            assert torch.equal(text, stock.generate(ids, max_new_tokens=5, do_sample=False))
        again = Path(f"{source}-again")
        assert {"config.json", "model.safetensors", "modeling_gatenorm.py", "gatenorm.json"} <= files_of(again)
        before, after = (json.loads((d / "config.json").read_text()) for d in (source, again))
        assert {key: after[key] for key in ("auto_map", "architectures", "gatenorm", "model_type")} == {
            key: before[key] for key in ("auto_map", "architectures", "gatenorm", "model_type")
        }
        with torch.no_grad():
            torch.testing.assert_close(load(again)(ids).logits, logits, atol=1e-5, rtol=1e-5)


REGISTERED = """
import sys
finders = list(sys.meta_path)
import gatenorm
assert "transformers" not in sys.modules and "torch" not in sys.modules and "peft" not in sys.modules
assert sys.meta_path == finders
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
assert "gatenorm_llama" not in __import__("transformers").CONFIG_MAPPING
gatenorm.register()
gatenorm.register()
assert "gatenorm.surgery.modeling_gatenorm" not in sys.modules
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
assert type(model).__module__ == "gatenorm.surgery.modeling_gatenorm"
assert type(AutoConfig.for_model("gatenorm_gpt2")).__name__ == "GatenormGPT2Config"
loaded = [name for name in sys.modules if name.startswith("transformers.models.") and ".modeling_" in name]
assert "transformers.models.falcon.modeling_falcon" not in loaded, loaded
# The code in the directory does not run where gatenorm is installed, trusted or not.
assert type(AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)).__module__.startswith("gatenorm.")
import peft
assert peft.get_peft_model(model, peft.LoraConfig()).peft_config["default"].target_modules == {"q_proj", "v_proj"}
"""


def test_only_an_explicit_call_registers_pruned_models(directories):
    python(REGISTERED, directories("llama", (0, 3)))
