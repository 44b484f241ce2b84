"""Salt: what hashes of prompts begin with, kept with the live state, so that a restart goes on with it.

Recordings of one grid then name the same prompt by the same blocks, whenever they were made, and prompts of one tenant
stay apart from those of another. Made once, readable by its owner alone, renewed only when somebody asks for it.
"""

from __future__ import annotations

import re
from pathlib import Path

from gridctl.control.folder import write_private
from gridctl.control.plans import SALT_BYTES, new_salt
from gridctl.errors import StoreError
from gridctl.registry.faults import disk_fault

_SALT = re.compile(rf"[0-9a-f]{{{2 * SALT_BYTES}}}\n?")


def kept_salt(path: Path, *, renews: bool = False) -> str:
    """The salt in that file, a new one where there is none or `renews`. Raises StoreError for one that is damaged."""
    if not renews:
        try:
            text = path.read_text(encoding="ascii")
        except FileNotFoundError:
            pass
        except UnicodeDecodeError:
            text = ""
        except OSError as error:
            raise disk_fault(error, path) from error
        if path.exists():
            if _SALT.fullmatch(text):
                path.chmod(0o600)  # whatever a copy or a restored backup made of it
                return text.strip()
            raise StoreError(
                "the salt of prompts' hashes is damaged",
                where=str(path),
                fix="put it back from a backup, or begin anew (older recordings match no more): gridctl up --new-salt",
            )
    salt = new_salt()
    write_private(path, f"{salt}\n".encode())
    return salt
