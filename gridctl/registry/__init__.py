"""Registry: desired state, versions, events and runs. The only room with SQL.

stored     what a reader gets: Stored, Event, Change, Planned
changes    the difference between two declarations
documents  resources <-> canonical JSON text
lock       one writer at a time
schema     tables, migrations, which databases are ours
database   one SQLite file: opening, transactions, errors, backup
registry   Registry: list, get, plan, apply, update, delete, events
integrity  what must hold of a registry, checked
keys       access keys: digests of tokens, and what they allow
columns    one NumPy array in one file, with a checksum
runs       RunStore: a replay's results as a folder of columns
draws      DrawStore: beside a run, what says how sure it is
sweeps     SweepStore: a sweep's plan and the journal of its results
runwriter  the columns of one run, written while it is made
"""

from gridctl.registry.draws import DrawStore
from gridctl.registry.keys import AccessKey, WantedKey
from gridctl.registry.registry import Registry
from gridctl.registry.runs import RunStore
from gridctl.registry.stored import Change, Event, Planned, Stored
from gridctl.registry.sweeps import SweepStore

__all__ = [
    "AccessKey",
    "Change",
    "DrawStore",
    "Event",
    "Planned",
    "Registry",
    "RunStore",
    "Stored",
    "SweepStore",
    "WantedKey",
]
