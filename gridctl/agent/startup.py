"""Startup: a folder as a dead agent left it is put in order, before anything new is begun.

What is on its way without a row in the journal is swept away. After an end that was not in order every version is read
again: one that is not what its digest says is dropped, and the previous one takes the place of a committed one. Trials
are left for the agent to revert, because the engine has to go back first. Invariant: nothing that a pointer names is
removed, unless it is damaged.
"""

from __future__ import annotations

from collections.abc import Callable

from gridctl.agent.folder import AgentFolder, is_folder
from gridctl.agent.journal import JournalFile
from gridctl.agent.versions import Versions
from gridctl.artifacts.contents import file_digest

Say = Callable[[str], None]


def put_in_order(folder: AgentFolder, journal: JournalFile, versions: Versions, say: Say) -> None:
    """Sweep, re-verify where needed, repair links. Cost: every byte held is read after an unclean end."""
    folder.empty_trash()
    here = frozenset(digest for model in versions.models for digest in versions.whole(model))
    journal.keep_only(journal.value.wanted - here)
    _sweep_staging(folder, journal)
    if not journal.was_clean:
        say("the last agent here did not end in order: reading every version again")
        _verify(versions, say)
        _verify_blobs(folder)
    _drop_missing(versions, say)
    for model in versions.models:
        versions.follow(model)


def _sweep_staging(folder: AgentFolder, journal: JournalFile) -> None:
    under_way = {folder.stage(row.model, row.digest) for row in journal.value.transfers}
    for model in sorted(folder.staging.iterdir()):
        if not is_folder(model):
            folder.discard(model)
            continue
        for stage in sorted(model.iterdir()):
            if stage not in under_way:
                folder.discard(stage)
    folder.empty_trash()


def _verify(versions: Versions, say: Say) -> None:
    for model in versions.models:
        damaged = set()
        for digest in sorted(versions.whole(model)):
            reason = versions.damage(model, digest)
            if reason:
                say(f"{model} {digest[:19]}… is damaged: {reason}")
                damaged.add(digest)
        if damaged:
            versions.drop_damaged(model, frozenset(damaged))


def _verify_blobs(folder: AgentFolder) -> None:
    """Blobs that no version holds; the others were read with their versions, under another name."""
    for path in sorted(folder.blobs.iterdir()):
        if path.is_symlink() or (path.stat().st_nlink == 1 and file_digest(path) != f"sha256:{path.name}"):
            path.unlink()


def _drop_missing(versions: Versions, say: Say) -> None:
    """Pointers to versions that somebody removed by hand."""
    for model in versions.models:
        missing = versions.pointers(model).named - versions.whole(model)
        if missing:
            say(f"{model}: {len(missing)} version(s) are gone from the disk")
            versions.set(model, versions.pointers(model).without(missing))
