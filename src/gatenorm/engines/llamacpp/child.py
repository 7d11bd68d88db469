"""The process that holds llama.cpp's server, so that an abort in C++ ends it and nobody else.

Run by its path, with a line of JSON on stdin: ``path``, ``context``, ``threads``, ``key``, ``states``. It writes the
server's address as a line to stdout, or ends with the reason on stderr, and lives as long as stdin is open. Needs
xllamacpp and nothing else, not even gatenorm.
"""

import json
import os
import sys
from typing import Any

# Lines that llama.cpp logs of what goes wrong, and no others.
_ERRORS = 2


def parameters(asked: dict[str, Any]) -> Any:
    """Parameters of llama.cpp's server with everything off that blurs a comparison."""
    import xllamacpp as xl

    params = xl.CommonParams()
    params.model.path = asked["path"]
    settings = {
        "n_ctx": asked["context"],
        "n_batch": asked["context"],
        "n_ubatch": asked["context"],
        "n_parallel": 1,
        "n_gpu_layers": 0,
        "flash_attn_type": xl.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        "cache_type_k": xl.ggml_type.GGML_TYPE_F32,
        "cache_type_v": xl.ggml_type.GGML_TYPE_F32,
        "cache_ram_mib": 0,
        "n_ctx_checkpoints": 0,
        "fit_params": False,
        "warmup": False,
        "use_jinja": False,
        "ui": False,
        "verbosity": _ERRORS,
        "n_threads_http": 4,
        "api_keys": [asked["key"]],
        "slot_save_path": asked["states"] + "/",
    }
    for name, value in settings.items():
        setattr(params, name, value)
    for threads in (params.cpuparams, params.cpuparams_batch):
        threads.n_threads = asked["threads"]
    return params


def main() -> None:
    """Serve until stdin ends."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever C++ prints is no answer
    asked = json.loads(sys.stdin.readline())
    import xllamacpp

    try:
        server = xllamacpp.Server(parameters(asked))
    except (RuntimeError, ValueError, MemoryError) as error:
        sys.exit(f"xllamacpp: {error}")
    try:
        print(server.listening_address, file=answer, flush=True)
        sys.stdin.read()
    finally:
        # A server that is told to stop before its loop has begun never stops (seen in xllamacpp 2026.10), and so would
        # this process, whose parent may be gone by now.
        os._exit(0)


if __name__ == "__main__":
    main()
