"""What an edge holds, when it is at rest, and how two moments of rest may differ."""

from __future__ import annotations

from dataclasses import dataclass, fields

MEMORY_MAY_GROW_KIB = 3 * 1024  # the allocator's own disorder; two minutes are thousands of requests


@dataclass(frozen=True)
class Holdings:
    """One look at the edge."""

    clients: int  # connections that clients have opened
    buffered: int  # bytes that wait for clients
    leased: int  # origin connections that an exchange has
    in_flight: int  # requests that the balancer counts
    dialling: int
    waiting: int  # requests that wait for an origin connection
    idle: int  # origin connections that nobody uses
    fills: int  # fetches that fill the store
    loose: int  # blocks of the store that are neither free nor an object's: being filled, or pinned by a reader
    unused: int  # bytes of the store that no object takes
    tasks: int
    threads: int
    descriptors: int
    memory_kib: int  # that is the process's own; the store, which is shared, is not in it

    @property
    def at_rest(self) -> bool:
        """Whether nothing is under way, and what is only kept for a moment is gone."""
        return not self.unrest()

    def unrest(self) -> list[str]:
        """What is not as it is at rest."""
        nothing = (
            *("clients", "buffered", "leased", "in_flight", "dialling"),
            *("waiting", "idle", "fills", "loose"),
        )
        return [f"{name}: {value}" for name in nothing if (value := getattr(self, name))]

    def against(self, before: Holdings) -> list[str]:
        """What is held now and was not before; both moments are moments of rest after a purge of everything."""
        wrong = self.unrest()
        for name in ("tasks", "threads", "descriptors"):
            now, then = getattr(self, name), getattr(before, name)
            if now > then:
                wrong.append(f"{name}: {then} before, {now} now")
        if self.unused < before.unused:
            wrong.append(f"unused: {before.unused - self.unused} bytes of the store are lost")
        if self.memory_kib > before.memory_kib + MEMORY_MAY_GROW_KIB:
            wrong.append(f"memory_kib: {before.memory_kib} before, {self.memory_kib} now")
        return wrong

    def __str__(self) -> str:
        return ", ".join(f"{each.name} {getattr(self, each.name)}" for each in fields(self))
