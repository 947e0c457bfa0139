"""Content chains: between the origin and the store, and before each client."""
