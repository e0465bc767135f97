"""The exchange's public archive: a listing, and zipped files of candles by day and month."""
