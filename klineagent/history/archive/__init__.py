"""The exchange's public archive: its listing, its files, and how they come here whole."""
