"""Paged KV memory with automatic prefix caching, counted in blocks.

A prefix node is `node_tokens` tokens of a prompt (one or more engine blocks). Nodes in use are pinned by the sequences
that share them; unpinned nodes stay cached, least recently used first to go, a sequence's last node before its first —
the order vLLM's prefix-caching design describes. Nodes that come and go together are kept as one piece, so a request
costs as many steps as its prompt has branches, however many nodes it has:

    stretch  nodes that no request of the trace parts: all of them follow each other in every prompt that has the first
    piece    the nodes start … end − 1 of a prompt's beginning, all of one stretch, on one engine: as many sequences pin
             each of them, and unpinned they stand side by side in the LRU list. Eviction shortens a piece from its end;
             a sequence that shares only its beginning splits it.

Invariants, checked by the tests after every event:

    free + cached + Σ pinned nodes · blocks_per_node + Σ private blocks of sequences = blocks_total
    a cached node's parent (the node before it) is cached, and pinned at least as often

The second follows from the order of eviction; because of it the match of a prompt is found by bisection, and a
sequence reaches all its pieces from the deepest one without a look-up.
"""

from __future__ import annotations

from gridctl.engine.state import ENTRIES, FRESH, NIL, SPARE, TABLE_SIZE, Fleet
from gridctl.kernels import compiled, fused, inner

KEY_BITS = 40
"""Bits of a piece's key that hold the stretch; the rest holds the engine, counted from 1, so that no key is 0."""
GROUP_BITS = 2
KEY, HEAD = range(2)
"""Columns of the table. The key stands beside the piece, so a probe touches one cache line."""


@fused
def blocks_for(tokens: int, block_size: int) -> int:
    """Blocks that hold `tokens`."""
    return (tokens + block_size - 1) // block_size


@fused
def _key(engine: int, stretch: int) -> int:
    return ((engine + 1) << KEY_BITS) | stretch


@fused
def _stretch(key: int) -> int:
    return key & ((1 << KEY_BITS) - 1)


@fused
def _before(fleet: Fleet, stretch: int) -> int:
    """Nodes of a prompt before the stretch."""
    parent = int(fleet.stretch_parent[stretch])
    return 0 if parent == NIL else int(fleet.stretch_depth[parent])


@fused
def _home(key: int, size: int) -> int:
    """Where `key` belongs in the table of `size` slots, which begins at `size`: a table twice as large lies behind it.
    Neighbouring stretches, mostly of one session, are neighbours there too, a cache line to a group; groups are
    scattered by 20-bit pieces times odd 32-bit constants, so nothing overflows 63 bits."""
    group = key >> GROUP_BITS
    mixed = (group & 0xFFFFF) * 0x9E3779B1 ^ ((group >> 20) & 0xFFFFF) * 0x85EBCA6B ^ (group >> 40) * 0xC2B2AE35
    return (((mixed ^ (mixed >> 21)) << GROUP_BITS) | (key & ((1 << GROUP_BITS) - 1))) & (size - 1)


@inner
def _slot_of(fleet: Fleet, key: int) -> int:
    """Where `key` is in the table, or the free slot where it would be."""
    size = fleet.books[TABLE_SIZE]
    place = _home(key, size)
    while fleet.table[size + place, KEY] != key and fleet.table[size + place, KEY] != 0:
        place = (place + 1) & (size - 1)
    return size + place


@compiled
def find_piece(fleet: Fleet, engine: int, stretch: int) -> int:
    """The first piece of `stretch` on `engine`, or NIL."""
    key = _key(engine, stretch)
    slot = _slot_of(fleet, key)
    return fleet.table[slot, HEAD] if fleet.table[slot, KEY] == key else NIL


@inner
def _double_table(fleet: Fleet) -> None:
    """Move every entry to the table twice as large behind this one."""
    old = fleet.books[TABLE_SIZE]
    fleet.books[TABLE_SIZE] = 2 * old
    for slot in range(old, 2 * old):
        key = fleet.table[slot, KEY]
        if key != 0:
            target = _slot_of(fleet, key)
            fleet.table[target, KEY] = key
            fleet.table[target, HEAD] = fleet.table[slot, HEAD]
            fleet.table[slot, KEY] = 0


@inner
def _enter(fleet: Fleet, piece: int) -> None:
    """Make the first piece of a stretch findable."""
    if 2 * fleet.books[ENTRIES] >= fleet.books[TABLE_SIZE]:
        _double_table(fleet)
    key = fleet.pieces[piece].key
    slot = _slot_of(fleet, key)
    fleet.table[slot, KEY] = key
    fleet.table[slot, HEAD] = piece
    fleet.books[ENTRIES] += 1
    fleet.holders[_stretch(key)] += 1


@inner
def _strike(fleet: Fleet, key: int) -> None:
    """Take a stretch out of the table, closing the gap so that probes never meet a tombstone."""
    size = fleet.books[TABLE_SIZE]
    mask = size - 1
    place = _slot_of(fleet, key) - size
    hole = place
    while True:
        place = (place + 1) & mask
        other = fleet.table[size + place, KEY]
        if other == 0:
            break
        if ((place - _home(other, size)) & mask) >= ((place - hole) & mask):
            fleet.table[size + hole, KEY] = other
            fleet.table[size + hole, HEAD] = fleet.table[size + place, HEAD]
            hole = place
    fleet.table[size + hole, KEY] = 0
    fleet.books[ENTRIES] -= 1
    fleet.holders[_stretch(key)] -= 1


@inner
def _new_piece(fleet: Fleet, key: int, start: int, end: int, parent: int) -> int:
    """A piece pinned once, known to nobody yet."""
    height = fleet.books[SPARE]
    if height > 0:
        piece = fleet.spare_pieces[height - 1]
        fleet.books[SPARE] = height - 1
    else:
        piece = fleet.books[FRESH]
        fleet.books[FRESH] = piece + 1
    record = fleet.pieces[piece]
    record.key = key
    record.pins = 1
    record.start = start
    record.end = end
    record.parent = parent
    record.below = NIL
    return piece


@fused
def _is_head(fleet: Fleet, piece: int) -> bool:
    """Whether the piece is the first of its stretch."""
    parent = fleet.pieces[piece].parent
    return parent == NIL or fleet.pieces[parent].key != fleet.pieces[piece].key


@inner
def _discard(fleet: Fleet, piece: int) -> None:
    """Forget an evicted piece, the last one left of its stretch or of what lies below."""
    record = fleet.pieces[piece]
    if _is_head(fleet, piece):
        _strike(fleet, record.key)
    else:
        fleet.pieces[record.parent].below = NIL
    fleet.spare_pieces[fleet.books[SPARE]] = piece
    fleet.books[SPARE] += 1


@inner
def _split(fleet: Fleet, engine: int, piece: int, at: int) -> int:
    """Part a piece before node `at`; returns the new piece with its beginning. The end keeps its number, because that
    is where sequences and later pieces hang on."""
    record = fleet.pieces[piece]
    is_head = _is_head(fleet, piece)
    head = _new_piece(fleet, record.key, record.start, at, record.parent)
    beginning = fleet.pieces[head]
    beginning.pins = record.pins
    beginning.below = piece
    if is_head:
        fleet.table[_slot_of(fleet, record.key), HEAD] = head
    else:
        fleet.pieces[record.parent].below = head
    record.parent = head
    record.start = at
    if record.pins == 0:
        beginning.older = piece
        beginning.newer = record.newer
        if record.newer == NIL:
            fleet.engines[engine].lru_newest = head
        else:
            fleet.pieces[record.newer].older = head
        record.newer = head
    return head


@fused
def _unlink(fleet: Fleet, engine: int, piece: int) -> None:
    """Take an unpinned piece out of the engine's LRU list."""
    host = fleet.engines[engine]
    record = fleet.pieces[piece]
    if record.newer == NIL:
        host.lru_newest = record.older
    else:
        fleet.pieces[record.newer].older = record.older
    if record.older == NIL:
        host.lru_oldest = record.newer
    else:
        fleet.pieces[record.older].newer = record.newer


@fused
def _link_newest(fleet: Fleet, engine: int, piece: int) -> None:
    """Put a piece that was just unpinned at the newest end."""
    host = fleet.engines[engine]
    record = fleet.pieces[piece]
    record.newer = NIL
    record.older = host.lru_newest
    if host.lru_newest == NIL:
        host.lru_oldest = piece
    else:
        fleet.pieces[host.lru_newest].newer = piece
    host.lru_newest = piece


@compiled
def allocate(fleet: Fleet, engine: int, blocks: int) -> bool:
    """Take `blocks`, evicting cached nodes if needed; False, and nothing taken, when there are not enough."""
    host = fleet.engines[engine]
    if blocks > host.free_blocks + host.cached_blocks:
        return False
    while host.free_blocks < blocks:
        per_node = fleet.node_tokens // host.block_size
        oldest = host.lru_oldest
        record = fleet.pieces[oldest]
        nodes = min(record.end - record.start, (blocks - host.free_blocks + per_node - 1) // per_node)
        record.end -= nodes
        if record.end == record.start:
            _unlink(fleet, engine, oldest)
            _discard(fleet, oldest)
        host.cached_blocks -= nodes * per_node
        host.free_blocks += nodes * per_node
    host.free_blocks -= blocks
    return True


@inner
def lay_path(fleet: Fleet, stretch: int) -> int:
    """Write the stretches from a prompt's beginning to `stretch` into the router's path; returns how many."""
    count = 0
    step = stretch
    while step != NIL:
        count += 1
        step = int(fleet.stretch_parent[step])
    place = count
    step = stretch
    while step != NIL:
        place -= 1
        fleet.router_path[place] = step
        step = int(fleet.stretch_parent[step])
    return count


@compiled
def matching_stretches(fleet: Fleet, engine: int, known: int, hint: int) -> int:
    """How many of the `known` first stretches of the router's path are cached on `engine`, the last perhaps in part:
    two look-ups when it is `hint`, as engines that share a system prompt mostly answer alike, else O(log known)."""
    if fleet.engines[engine].prefix_caching == 0 or known == 0:
        return 0
    matched, missing = 0, known + 1
    probe = min(hint, known)
    if probe == 0 or find_piece(fleet, engine, fleet.router_path[probe - 1]) != NIL:
        matched = probe
        if probe < known and find_piece(fleet, engine, fleet.router_path[probe]) == NIL:
            missing = probe + 1
    else:
        missing = probe
    while missing - matched > 1:
        middle = (matched + missing) >> 1
        if find_piece(fleet, engine, fleet.router_path[middle - 1]) != NIL:
            matched = middle
        else:
            missing = middle
    return matched


@inner
def nodes_cached(fleet: Fleet, engine: int, stretch: int) -> int:
    """How many leading nodes of a prompt are cached on `engine` when `stretch` is its last one with any there; 0 when
    there is nothing of it."""
    piece = find_piece(fleet, engine, stretch)
    if piece == NIL:
        return 0
    while fleet.pieces[piece].below != NIL:
        piece = fleet.pieces[piece].below
    return fleet.pieces[piece].end


@inner
def match_of(fleet: Fleet, engine: int, slot: int) -> int:
    """How many leading nodes of a waiting sequence's prompt are cached on the engine. At least one of its tokens is
    always left to compute."""
    sequence = fleet.sequences[slot]
    if fleet.engines[engine].prefix_caching == 0 or sequence.blocks_full == 0:
        return 0
    limit = min(sequence.blocks_full, (sequence.target - 1) // fleet.node_tokens)
    stretch = sequence.leaf
    while stretch != NIL:
        if fleet.holders[stretch] > 0:
            nodes = nodes_cached(fleet, engine, stretch)
            if nodes > 0:
                return min(limit, nodes)
        stretch = int(fleet.stretch_parent[stretch])
    return 0


@inner
def _piece_with(fleet: Fleet, engine: int, slot: int, matched: int) -> int:
    """The piece that holds the last of a sequence's `matched` leading nodes, or NIL when none are."""
    if matched == 0:
        return NIL
    stretch = fleet.sequences[slot].leaf
    while _before(fleet, stretch) >= matched:
        stretch = int(fleet.stretch_parent[stretch])
    piece = find_piece(fleet, engine, stretch)
    while fleet.pieces[piece].end < matched:
        piece = fleet.pieces[piece].below
    return piece


@inner
def fits(fleet: Fleet, engine: int, slot: int, matched: int, tokens: int, spoken_for: int) -> bool:
    """Whether a sequence's first `tokens` find room beside `spoken_for` blocks, its `matched` leading nodes being
    shared. Nodes nobody pins count as evictable, so reviving one costs its blocks."""
    host = fleet.engines[engine]
    needed = blocks_for(tokens, host.block_size) + spoken_for
    available = host.free_blocks + host.cached_blocks
    if matched == 0 or needed <= available:
        return needed <= available
    shared = matched
    piece = _piece_with(fleet, engine, slot, matched)
    while piece != NIL and fleet.pieces[piece].pins == 0:
        shared = fleet.pieces[piece].start
        piece = fleet.pieces[piece].parent
    return needed - shared * (fleet.node_tokens // host.block_size) <= available


@inner
def reserve(fleet: Fleet, engine: int, slot: int, matched: int, tokens: int) -> bool:
    """Pin the `matched` leading nodes and take blocks for the rest of `tokens`; all or nothing."""
    if not fits(fleet, engine, slot, matched, tokens, 0):
        return False
    sequence = fleet.sequences[slot]
    piece = _piece_with(fleet, engine, slot, matched)
    if piece != NIL and fleet.pieces[piece].end > matched:
        piece = _split(fleet, engine, piece, matched)
    sequence.deepest = piece
    sequence.pinned = matched
    while piece != NIL:
        _pin(fleet, engine, piece)
        piece = fleet.pieces[piece].parent
    host = fleet.engines[engine]
    needed = blocks_for(tokens, host.block_size)
    if matched > 0:
        needed -= matched * (fleet.node_tokens // host.block_size)
    return allocate(fleet, engine, needed)


@inner
def _pin(fleet: Fleet, engine: int, piece: int) -> None:
    host = fleet.engines[engine]
    record = fleet.pieces[piece]
    if record.pins == 0:
        _unlink(fleet, engine, piece)
        host.cached_blocks -= (record.end - record.start) * (fleet.node_tokens // host.block_size)
    record.pins += 1


@inner
def _lengthen(fleet: Fleet, engine: int, slot: int, stretch: int, end: int) -> int:
    """Add the nodes from where a sequence's pins end up to `end`, which nobody has there: to its deepest piece where
    no other sequence shares that, else as a piece of their own."""
    sequence = fleet.sequences[slot]
    deepest, key = sequence.deepest, _key(engine, stretch)
    continues = deepest != NIL and fleet.pieces[deepest].key == key
    if continues and fleet.pieces[deepest].pins == 1:
        fleet.pieces[deepest].end = end
        return deepest
    piece = _new_piece(fleet, key, sequence.pinned, end, deepest)
    if continues:
        fleet.pieces[deepest].below = piece
    else:
        _enter(fleet, piece)
    return piece


@inner
def _publish_stretch(fleet: Fleet, engine: int, slot: int, stretch: int, end: int) -> None:
    """Share or add the nodes of one stretch up to node `end` of the prompt."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    deepest = sequence.deepest
    if deepest != NIL and fleet.pieces[deepest].key == _key(engine, stretch):
        following = fleet.pieces[deepest].below
    else:
        following = NIL if fleet.holders[stretch] == 0 else find_piece(fleet, engine, stretch)
    while sequence.pinned < end:
        if following == NIL:
            sequence.deepest = _lengthen(fleet, engine, slot, stretch, end)
            sequence.pinned = end
            return
        if fleet.pieces[following].end > end:
            following = _split(fleet, engine, following, end)
        _pin(fleet, engine, following)
        record = fleet.pieces[following]
        host.free_blocks += (record.end - record.start) * (fleet.node_tokens // host.block_size)
        sequence.deepest = following
        sequence.pinned = record.end
        following = record.below


@inner
def publish(fleet: Fleet, engine: int, slot: int, tokens: int) -> None:
    """Make the prompt nodes filled by the first `tokens` findable by other requests. A node another sequence has
    published meanwhile is shared and our copy freed."""
    sequence = fleet.sequences[slot]
    if fleet.engines[engine].prefix_caching == 0:
        return
    full = min(sequence.blocks_full, tokens // fleet.node_tokens)
    if sequence.pinned >= full:
        return
    stretch = sequence.leaf
    height = 0
    while stretch != NIL and fleet.stretch_depth[stretch] > sequence.pinned:
        if _before(fleet, stretch) < full:
            fleet.engine_path[height] = stretch
            height += 1
        stretch = int(fleet.stretch_parent[stretch])
    while height > 0:
        height -= 1
        stretch = fleet.engine_path[height]
        _publish_stretch(fleet, engine, slot, stretch, min(full, int(fleet.stretch_depth[stretch])))


@inner
def forget(fleet: Fleet, engine: int) -> None:
    """Give back every block and forget every cached node. All sequences have been released (see `release`)."""
    host = fleet.engines[engine]
    while host.lru_oldest != NIL:
        oldest = host.lru_oldest
        _unlink(fleet, engine, oldest)
        _discard(fleet, oldest)
    host.cached_blocks = 0
    host.free_blocks = host.blocks_total


@inner
def release(fleet: Fleet, engine: int, slot: int, tokens: int) -> None:
    """Give back what a sequence holding `tokens` has: private blocks at once, shared nodes when nobody pins them."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    held = blocks_for(tokens, host.block_size)
    if sequence.pinned > 0:
        per_node = fleet.node_tokens // host.block_size
        held -= sequence.pinned * per_node
        piece = sequence.deepest
        while piece != NIL:
            record = fleet.pieces[piece]
            record.pins -= 1
            if record.pins == 0:
                _link_newest(fleet, engine, piece)
                host.cached_blocks += (record.end - record.start) * per_node
            piece = record.parent
        sequence.pinned = 0
        sequence.deepest = NIL
    host.free_blocks += held
