"""An agent that is asked many things, beside one that is left alone."""
