"""Every audit that is kept as a fixture."""

from __future__ import annotations

import pytest

from gatenorm.records.audit import Audit
from tests.report.audits import FIXTURES, audit


@pytest.fixture(scope="module", params=sorted(p.stem.removeprefix("audit_") for p in FIXTURES.glob("audit_*.json")))
def measured(request: pytest.FixtureRequest) -> Audit:
    return audit(request.param)
