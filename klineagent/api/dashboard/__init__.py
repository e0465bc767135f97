"""The dashboard: its page, the overview that it shows, and the days that are covered."""
