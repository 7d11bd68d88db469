"""What lm-eval's classes are given in addition: requests are counted and checked, refused in one line, without bars."""

import math
from typing import Any

from gatenorm.errors import EvaluationError
from gatenorm.models.forward import not_finite
from gatenorm.models.model import Model
from gatenorm.progress import Progress


class Answering:
    """Mixed in before one of lm-eval's classes, whose method that runs a batch must call :meth:`count`.

    Attributes:
        asked: the model.
        spare_tokens: by how many tokens a request may be longer than ``max_length`` without losing its beginning.
    """

    asked: Model
    spare_tokens: int
    max_length: int
    _progress: Progress | None = None
    _done = _total = 0

    def tell(self, progress: Progress | None) -> None:
        """Call ``progress`` with (requests done, in all) from now on."""
        self._progress, self._done, self._total = progress, 0, 0

    def count(self, requests: int) -> None:
        self._done += requests
        if self._progress and self._total:  # texts that are written are not counted
            self._progress(min(self._done, self._total), self._total)

    def hardware(self) -> dict[str, str]:
        return self.asked.hardware()

    def not_finite(self) -> EvaluationError:
        return not_finite(self.asked.module)

    def loglikelihood(self, requests: Any, **_: Any) -> Any:
        return super().loglikelihood(requests, disable_tqdm=True)  # type: ignore[misc]

    def loglikelihood_rolling(self, requests: Any, **_: Any) -> Any:
        return super().loglikelihood_rolling(requests, disable_tqdm=True)  # type: ignore[misc]

    def generate_until(self, requests: Any, **_: Any) -> Any:
        return super().generate_until(requests, disable_tqdm=True)  # type: ignore[misc]

    def _loglikelihood_tokens(self, requests: Any, **options: Any) -> Any:
        self._total += len(requests)
        longest = max((len(continuation) for _, _, continuation in requests), default=0)
        if longest >= self.max_length + self.spare_tokens:
            raise EvaluationError(
                "continuation-too-long",
                f"{self.asked.name}: a continuation has {longest:,} tokens, and the longest input {self.max_length:,}: "
                "nothing would be left of what it continues",
                hint="leave the task out",
            )
        results = super()._loglikelihood_tokens(requests, **{**options, "disable_tqdm": True})  # type: ignore[misc]
        if not all(math.isfinite(value) for value, _ in results):
            raise self.not_finite()
        return results
