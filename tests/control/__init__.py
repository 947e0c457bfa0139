"""The control state."""
