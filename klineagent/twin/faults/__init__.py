"""What goes wrong with the exchange on demand: failures and lies."""
