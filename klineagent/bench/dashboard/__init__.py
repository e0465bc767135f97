"""The dashboard in a browser, as a load and as something to wait for."""
