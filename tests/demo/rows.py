"""What the built-in model is trained on, out of the scripts."""

import importlib.util
from pathlib import Path

_SCRIPT = Path(__file__).resolve().parents[2] / "scripts/training_rows.py"
_found = importlib.util.spec_from_file_location("training_rows", _SCRIPT)
assert _found is not None
assert _found.loader is not None
_module = importlib.util.module_from_spec(_found)
_found.loader.exec_module(_module)
row, train_tokenizer = _module.row, _module.train_tokenizer
