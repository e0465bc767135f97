"""Programs that read beside the recording of the whole market, and what they cost."""
