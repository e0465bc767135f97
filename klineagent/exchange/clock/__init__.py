"""The exchange's clock: its time as far as events and answers to `/time` agree."""
