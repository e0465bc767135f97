"""The names of settings in each source."""

from __future__ import annotations

import pytest

from klineagent.config.sources import unknown_variables

FIELDS = ("store", "lookback_s", "intervals")


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("KLINEAGENT_STROE", "KLINEAGENT_STROE is not a setting; did you mean KLINEAGENT_STORE?"),
        (
            "KLINEAGENT_LOOKBACK",
            "KLINEAGENT_LOOKBACK is not a setting; did you mean KLINEAGENT_LOOKBACK_S?",
        ),
        ("KLINEAGENT_AGNET", "KLINEAGENT_AGNET is not a setting; did you mean KLINEAGENT_AGENT?"),
        (
            "KLINEAGENT_9999_TCP",
            "KLINEAGENT_9999_TCP is not a setting; `klineagent config show` lists all.",
        ),
    ],
)
def test_a_misspelt_variable_is_reported_with_the_nearest(written: str, message: str) -> None:
    """If one is similar."""
    assert list(unknown_variables([written], FIELDS)) == [message]


@pytest.mark.parametrize(
    "ending",
    [
        *("SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_STATUS"),
        *("PORT", "PORT_9999_TCP", "PORT_9999_TCP_PROTO", "PORT_9999_TCP_PORT"),
        "PORT_9999_TCP_ADDR",
    ],
)
def test_what_kubernetes_makes_for_a_service_of_our_name_is_not_reported(ending: str) -> None:
    """Kubernetes sets it; another name with such an ending is reported all the same."""
    assert list(unknown_variables([f"KLINEAGENT_{ending}"], FIELDS)) == []
    [message] = unknown_variables([f"KLINEAGENT_REGISTRY_{ending}"], FIELDS)
    assert message.startswith(f"KLINEAGENT_REGISTRY_{ending} is not a setting")


def test_variables_that_are_known_or_none_of_ours_are_not_told() -> None:
    """Settings, the file with them, where clients find the agent; and completion's own."""
    known = ["KLINEAGENT_STORE", "KLINEAGENT_CONFIG", "KLINEAGENT_AGENT", "KLINEAGENT_LOOKBACK_S"]
    others = ["STORE", "DATA_AGENT_PORT", "_KLINEAGENT_COMPLETE", "klineagent_stroe"]
    assert list(unknown_variables([*known, *others], FIELDS)) == []
