"""Death on demand, for tests."""

from flyby.store._store import Store

def kill_at(store: Store, number: int) -> bool: ...
