"""What tests ask of an error: its code, and its field where it is about one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from gatenorm.errors import GatenormError


@contextmanager
def refused(
    code: str, field: str = "", kind: type[GatenormError] = GatenormError
) -> Iterator[pytest.ExceptionInfo[GatenormError]]:
    """The block raises an error of that code and field."""
    with pytest.raises(kind) as caught:
        yield caught
    assert (caught.value.code, caught.value.field) == (code, field), str(caught.value)
