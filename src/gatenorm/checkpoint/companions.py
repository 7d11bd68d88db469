"""The small files that go with weights: the same ones are fetched from the hub, read, hashed and carried over."""

from fnmatch import fnmatchcase

# The weights under the names that transformers reads, in one file or as an index says.
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
# Chat templates for other uses, such as tools, which tokenizers read too.
TEMPLATES = "additional_chat_templates"
# Named one by one: a file of any other kind may be code, and nobody who runs a pruned model has looked at it.
_NAMES = (
    *(
        "*.json",
        "*.txt",
        "*.model",
        "*.model.*",
        "*.tiktoken",
        "*.jinja",
        "*.md",
        "*.spm",
        "*.bpe",
        "*.vocab",
        "bpe.codes",
    ),
    *("LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "USE_POLICY*", f"{TEMPLATES}/*.jinja"),
)
# Copies of the weights in this or other formats.
_WEIGHTS = tuple(
    f".{ending}"
    for ending in (
        *("safetensors", "safetensors.index.json", "bin", "bin.index.json", "pt", "pth", "ckpt", "gguf", "onnx"),
        *("onnx_data", "msgpack", "h5", "ot", "tflite", "npz"),
    )
)
_OTHERS = (".*", "*.py")


def is_companion(name: str) -> bool:
    """Whether a file of that name, with ``/`` between folders, belongs to a model besides its weights."""
    folder, _, _ = name.rpartition("/")
    if folder not in ("", TEMPLATES):
        return False
    wanted = any(fnmatchcase(name, wanted) for wanted in _NAMES) and not any(fnmatchcase(name, no) for no in _OTHERS)
    return wanted and not is_weights(name)


def is_weights(name: str) -> bool:
    """Whether a file of that name holds weights, in use or not, or says where they lie."""
    return name.endswith(_WEIGHTS)
