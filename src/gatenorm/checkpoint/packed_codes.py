"""Codes of a few bits, and the scales that make numbers of them."""

import numpy as np
import numpy.typing as npt

from gatenorm.checkpoint.dtypes import Bits, Float32

Codes = npt.NDArray[np.uint8]
# The sixteen values of a 4-bit float with two bits of exponent and one of mantissa, by code.
E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, -0.0, -0.5, -1, -1.5, -2, -3, -4, -6], np.float32)


def unpacked(packed: Bits, bits: int) -> Codes:
    """Codes of ``bits`` bits, 1 to 8, out of little-endian words ``[..., words]``, as ``[..., codes]``.

    The words of a row are one stream of bits, lowest first; a code may lie across two words.
    """
    if not 1 <= bits <= 8:
        raise ValueError(f"codes of {bits} bits")
    if packed.dtype.kind not in "iu":
        raise ValueError(f"codes of type {packed.dtype}")
    stream = np.ascontiguousarray(packed).view(np.uint8)
    if 8 % bits == 0:
        shifts = np.arange(0, 8, bits, dtype=np.uint8)
        codes = (stream[..., None] >> shifts) & np.uint8((1 << bits) - 1)
        return codes.reshape(*stream.shape[:-1], -1)
    single = np.unpackbits(stream, axis=-1, bitorder="little")
    whole = single.shape[-1] // bits * bits
    single = single[..., :whole].reshape(*stream.shape[:-1], -1, bits)
    return np.packbits(single, axis=-1, bitorder="little")[..., 0]


def bits_of(words: int, codes: int) -> int:
    """How many bits a code has, where ``codes`` of them fill ``words`` words of 32 bits."""
    bits, rest = divmod(32 * words, codes)
    if rest or not 1 <= bits <= 8:
        raise ValueError(f"{words} words for {codes} codes")
    return bits


def scale_blocks(
    values: Float32, scales: Float32, block: tuple[int, int], first: int = 0, zeros: Float32 | Codes | None = None
) -> None:
    """``(value - zero) * scale`` with the scale and the zero of each value's block, in place.

    Args:
        values: rows ``first`` and on of a matrix ``[out, in]``.
        scales: ``[ceil(out / block[0]), ceil(in / block[1])]``, and so are ``zeros``.
        block: rows and columns of a block; those at the edges may be smaller.
    """
    height, width = block
    if scales.shape[1] != -(-values.shape[1] // width) or (zeros is not None and zeros.shape != scales.shape):
        raise ValueError(f"scales of shape {list(scales.shape)} for blocks of {list(block)}")
    blocks = (first + np.arange(len(values))) // height
    for place in range(scales.shape[1]):
        columns = values[:, place * width : (place + 1) * width]
        if zeros is not None:
            columns -= zeros[blocks, place, None]
        columns *= scales[blocks, place, None]
