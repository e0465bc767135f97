"""How long to wait before trying again."""

from __future__ import annotations

import random

from attrs import define, field

# A server that accepts and drops us at once must not reset the backoff: 400 dials in 10 minutes.
HEALTHY_AFTER_S = 60.0


@define
class Backoff:
    """Doubling ceilings with full jitter; they start anew after a minute of health."""

    first_s: float
    most_s: float = 30.0
    _failures: int = field(default=0, init=False)

    def after(self, lived_s: float = 0) -> float:
        """Seconds to wait after something failed that had worked for `lived_s` seconds."""
        if lived_s >= HEALTHY_AFTER_S:
            self._failures = 0
        # The exponent is capped so that a week of failures does not overflow a float.
        ceiling_s = min(self.most_s, self.first_s * 2 ** min(self._failures, 30))
        self._failures += 1
        # The module's own generator: seeded, a simulation repeats itself.
        return random.uniform(0, ceiling_s)  # noqa: S311 - jitter, no secret
