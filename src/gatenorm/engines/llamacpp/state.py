"""What llama.cpp's saved state of a sequence says of the cache: for each layer, how many bytes a key takes.

The format is ``llama_context::state_seq_save_file`` (src/llama-context.cpp) and ``llama_kv_cache::state_write``
(src/llama-kv-cache.cpp): magic, version, tokens, streams, cells, then each layer's key type, row size and rows.
"""

import struct

_MAGIC = 0x67677371
# Bytes between the number of layers and the first of them, by version; 4 (seen in xllamacpp 2026.10) has two numbers.
_GAP = {3: 0, 4: 8}
_MOST_LAYERS = 1 << 16


def cached_layers(state: bytes) -> int | None:
    """In how many layers keys are kept; ``None`` where the bytes are of another format."""
    try:
        sizes = _key_sizes(state)
    except struct.error:
        return None
    return None if sizes is None else sum(size > 0 for size in sizes)


def _key_sizes(state: bytes) -> list[int] | None:
    magic, version, tokens = struct.unpack_from("<3I", state)
    if magic != _MAGIC or version not in _GAP:
        return None
    at = 12 + 4 * tokens
    streams, cells = struct.unpack_from("<2I", state, at)
    at += 8
    if streams != 1 or not cells:
        return None
    for _ in range(cells):
        _, sequences = struct.unpack_from("<iI", state, at)
        at += 8 + 4 * sequences
    transposed, layers = struct.unpack_from("<2I", state, at)
    at += 8 + _GAP[version]
    if transposed > 1 or layers > _MOST_LAYERS:
        return None
    sizes = []
    for _ in range(layers):
        _, row = struct.unpack_from("<iQ", state, at)
        sizes.append(row)
        at += 12 + row * cells
        if at > len(state):
            return None
    return sizes
