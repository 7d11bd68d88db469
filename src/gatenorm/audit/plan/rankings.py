"""Rankings of the layers that are to be made, and what they are compared with."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from gatenorm.audit.plan.config import Config
from gatenorm.calibration.samples import DATA_FREE, HUB, RANDOM, SELF, Calibration
from gatenorm.criteria.criterion_spec import criterion_specs
from gatenorm.criteria.registry import weight_criterion
from gatenorm.errors import EvaluationError, fields_named
from gatenorm.evaluation.core.generic import mixture_sha256
from gatenorm.evaluation.core.text import GENERIC, LINES, PARQUET, WIKITEXT2, read_text, source_path
from gatenorm.records import Scores

_COSINE, _NORM_RATIO, _WEIGHT_MAGNITUDE = "cosine", "norm-ratio", "weight-magnitude"


@dataclass(frozen=True)
class PlannedRanking:
    """A ranking to be made: a criterion, and its tokens where it uses any; ``baseline`` marks what to beat.

    ``called`` is what the tokens are called where the file's name alone is ambiguous.
    """

    criterion: str
    source: str | None = None
    seed: int = 0
    check: bool = False
    baseline: bool = False
    called: str = ""

    @property
    def like(self) -> str:
        """What takes about as long: itself alone."""
        return f"score {self.name}"

    @property
    def name(self) -> str:
        """As :func:`gatenorm.analysis.agreement.label` will call its scores."""
        if self.source is not None:
            return f"{self.criterion}@{self.called or Path(self.source).name}"
        return f"{self.criterion}@{self.seed}" if self.seed and self.criterion == "random" else self.criterion

    @property
    def tokens(self) -> object:
        """What identifies its tokens, whatever the file is called today; ``None`` where it uses none."""
        return None if self.source is None else source_key(self.source)

    def relabelled(self, scores: Scores) -> Scores:
        """Scores that were made of the same tokens, perhaps under another name, as this ranking's."""
        if self.source is None or scores.calibration is None:
            return scores
        tokens, path = structs.replace(scores.calibration, source=self.source, called=self.called), _file(self.source)
        if path is not None and tokens.data is not None:
            tokens = structs.replace(tokens, data=structs.replace(tokens.data, name=path.name))
        return structs.replace(scores, calibration=tokens)


def planned_rankings(config: Config, *, runs: bool, reads: bool = False) -> list[PlannedRanking]:
    """All rankings: those of the configuration, the checks where the model can be run, and the baselines.

    Args:
        runs: whether the model can be run.
        reads: whether it can read ordinary text, so that the packaged one is another source of checks.

    Raises:
        CriterionError, CalibrationError: a criterion that does not exist or lacks its tokens.
        EvaluationError: a calibration text that cannot be read.
    """
    settings, seed = config.rankings, config.run.seed
    if settings.calibration:
        check_text(settings.calibration, "rankings.calibration")
    calibration = Calibration(settings.calibration or "", settings.samples, settings.length, seed=seed)
    planned = []
    for spec in criterion_specs(settings.criteria, calibration):
        source = spec.calibration.source if spec.calibration else None
        if source and source != settings.calibration:
            check_text(source, "rankings.criteria", f"{spec.name}@{source}")
        weights = weight_criterion(spec.name)
        planned.append(PlannedRanking(spec.name, source, seed if weights and weights.seeded else 0))
    if runs:
        sources = [GENERIC if reads else None, RANDOM, SELF, settings.calibration]
        planned += [PlannedRanking(_COSINE, source, check=True) for source in dict.fromkeys(sources) if source]
        planned += [PlannedRanking(_NORM_RATIO, GENERIC, check=True)] if reads else []
        planned.append(PlannedRanking(_WEIGHT_MAGNITUDE, check=True))
    planned.append(PlannedRanking("depth", baseline=True))
    planned += [PlannedRanking("random", seed=seed + n, baseline=True) for n in range(settings.random_draws)]
    kept: dict[object, PlannedRanking] = {}
    for one in planned:
        kept.setdefault((one.criterion, one.seed if one.source is None else None, str(one.tokens)), one)
    return _with_distinct_names(list(kept.values()))


def in_file_names(name: str) -> str:
    """A name with nothing in it that a file system could take amiss."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")


def _with_distinct_names(rankings: list[PlannedRanking]) -> list[PlannedRanking]:
    """Names under which no two files are taken for one: the file's, else with the path, else with its hash."""
    ways: tuple[Callable[[str], str], ...] = (str, lambda source: f"{source} {_digest(source_key(source))[:8]}")
    for way in ways:
        times = Counter(in_file_names(one.name) for one in rankings)
        rankings = [
            replace(one, called=way(one.source))
            if one.source is not None and _file(one.source) is not None and times[in_file_names(one.name)] > 1
            else one
            for one in rankings
        ]
    return rankings


def source_key(source: str) -> dict[str, str]:
    """What identifies tokens: a file's hash and the form that it is read in, the name of whatever else they are from.

    The form counts: the same bytes are other tokens as plain text, as rows of a file, or by WikiText-2's protocol.
    """
    path = _file(source)
    if source == GENERIC:
        return {"source": source, "sha256": mixture_sha256()}
    if path is None or not path.is_file():
        return {"source": source}
    suffix = path.suffix.lower()
    form = WIKITEXT2 if source.startswith(f"{WIKITEXT2}=") else suffix if suffix in (*LINES, *PARQUET) else "text"
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "form": form}


def _file(source: str) -> Path | None:
    """The file that tokens come from; ``None`` where they are drawn or fetched."""
    return None if source in DATA_FREE or source.startswith(HUB) else source_path(source)


def check_text(source: str, key: str, called: str = "") -> None:
    """Read a text that was named, so that what is wrong with it is said before any work."""
    if _file(source) is not None:
        try:
            with fields_named({"data": key}):
                read_text(source)
        except EvaluationError as error:
            error.given = called or source
            raise


def _digest(key: Mapping[str, str]) -> str:
    return hashlib.sha256("\0".join(f"{k}={v}" for k, v in sorted(key.items())).encode()).hexdigest()
