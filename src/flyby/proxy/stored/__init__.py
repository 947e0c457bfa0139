"""Answers from the store: hits, parts, variants, renewals, purges."""
