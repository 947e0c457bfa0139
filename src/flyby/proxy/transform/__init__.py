"""Chains of transforms: what changes content on its way, once for a fetch or for each client."""
