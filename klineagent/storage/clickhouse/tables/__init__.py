"""The tables: what they are, and how those of earlier agents are brought forward."""
