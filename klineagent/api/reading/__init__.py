"""The read server: klines for programs, as the exchange answers them and as documents."""
