"""What this machine's processors can do. What the CPU can is read from the system: PyTorch is not imported for it."""

import re
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

# Of x86: vectors and tiles; of Arm. Without one of them bfloat16 is computed by conversion.
_BFLOAT16 = {"avx512_bf16", "amx_bf16", "bf16"}


def processor_features() -> frozenset[str]:
    """The processor's instructions, by the names that Linux has for them; none where that cannot be told."""
    with suppress(OSError):
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
        line = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
        return frozenset(line[1].split()) if line else frozenset()
    return frozenset()


def has_bfloat16_units() -> bool:
    """Whether this processor multiplies bfloat16 itself, faster than float32."""
    return bool(_BFLOAT16 & processor_features())


def has_accelerator() -> bool:
    """Whether PyTorch is here and sees another processor than the CPU."""
    if find_spec("torch") is None:
        return False
    import torch

    return bool(torch.accelerator.is_available())


def is_cpu(device: str) -> bool:
    """Whether a device is the CPU, which ``auto`` is where there is nothing else."""
    return device == "cpu" or (device == "auto" and not has_accelerator())
