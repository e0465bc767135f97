"""The fixture that klineagent ships for simulations of its users."""

from klineagent.testing.fixtures import simulation

__all__ = ["simulation"]
