"""The exchange's kline streams for programs: paths and requests, order of events, fan-out."""
