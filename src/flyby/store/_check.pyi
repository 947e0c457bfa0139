"""The audit of a store; called by `Store.check`."""
