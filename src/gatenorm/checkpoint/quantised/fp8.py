"""8-bit floats with a scale for each block (DeepSeek, Qwen), row or tensor (Llama).

``weight`` [out, in] holds e4m3 or e5m2. ``weight_scale_inv``, or ``weight_scale``, multiplies it, whatever its name
says: one number, one a row ([out, 1]), or one a block of ``weight_block_size``, those at the edges being smaller.

Source: the quantisers ``fp8`` and ``fbgemm_fp8`` of transformers; the model card of DeepSeek-V3.
"""

from gatenorm.checkpoint.dtypes import Float32
from gatenorm.checkpoint.packed_codes import scale_blocks
from gatenorm.checkpoint.quantisation import Parts, Quantisation, Settings

_SCALES = (".weight_scale_inv", ".weight_scale")


def _recognises(settings: Settings) -> bool:
    method = settings.get("quant_method")
    return method in ("fp8", "fbgemm_fp8") or (method == "modelopt" and settings.get("quant_algo") == "FP8")


def _float32(parts: Parts, rows: slice) -> Float32:
    return scaled(parts, rows, next(name for name in _SCALES if name in parts), parts.settings.get("weight_block_size"))


def scaled(parts: Parts, rows: slice, scale: str, block: object = None) -> Float32:
    """Rows of ``weight``, each block of which is multiplied by its scale.

    Args:
        scale: the ending of the scales: one, one a row, or one a block.
        block: rows and columns of a block, where the scales may be those of blocks.
    """
    if not parts.spec(".weight").dtype.startswith("F8_"):
        raise parts.wrong(f"it has scales, and a weight of type {parts.spec('.weight').dtype}", "8-bit floats")
    values = parts.float32(".weight", rows)
    scales = parts.float32(scale)
    out, columns = parts.shape(".weight")
    said = block if isinstance(block, (list, tuple)) else None
    if scales.size == 1 and (said is None or scales.ndim < 2):
        values *= scales.reshape(())
        return values
    height, width = map(int, said or (1, columns))
    blocks = (-(-out // height), -(-columns // width))
    if scales.shape != blocks:  # some have a scale a row in a model with blocks
        parts.check_shape(scale, blocks, (out, 1), (out,))
        height, width = 1, columns
    scale_blocks(values, scales.reshape(len(scales), -1), (height, width), rows.start)
    return values


QUANTISATION = Quantisation(
    summary="8-bit floats with scales",
    recognises=_recognises,
    markers=_SCALES,
    parts=(".weight", *_SCALES, ".activation_scale", ".input_scale", ".input_scale_ub"),
    float32=_float32,
)
