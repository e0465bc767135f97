"""Storage of klines: the contract of every store, and the URLs that name stores."""
