"""Paged KV memory with automatic prefix caching, counted in blocks.

A node is one prefix block of the trace (one or more engine blocks). Nodes in use are pinned by the sequences that
share them; unpinned nodes stay cached, least recently used first to go, a sequence's last block before its first —
the order vLLM's prefix-caching design describes. Invariants, checked by the tests after every event:

    free + cached + Σ pinned nodes · blocks_per_node + Σ private blocks of sequences = blocks_total
    a cached node's parent (the block before it) is cached, and pinned at least as often

The second follows from the order of eviction; because of it the match of a prompt is found by bisection, and a
sequence reaches all its nodes from the deepest one without a look-up.
"""

from __future__ import annotations

from gridctl.engine.state import NIL, Fleet
from gridctl.kernels import compiled, fused, inner

KEY_BITS = 40
"""Bits of a node's key that hold the block id; the rest holds the engine."""
GROUP_BITS = 4
BLOCK_MASK = (1 << KEY_BITS) - 1
KEY, NODE_INDEX = range(2)
"""Columns of the table. The key stands beside the node, so a probe touches one cache line."""


@fused
def blocks_for(tokens: int, block_size: int) -> int:
    """Blocks that hold `tokens`."""
    return (tokens + block_size - 1) // block_size


@fused
def _home(key: int, mask: int) -> int:
    """Where `key` belongs in the table. Neighbouring ids, mostly of one prompt, are neighbours there too, sixteen to
    a group; groups are scattered by 20-bit pieces times odd 32-bit constants, so nothing overflows 63 bits."""
    group = key >> GROUP_BITS
    mixed = (group & 0xFFFFF) * 0x9E3779B1 ^ ((group >> 20) & 0xFFFFF) * 0x85EBCA6B ^ (group >> 40) * 0xC2B2AE35
    return (((mixed ^ (mixed >> 21)) << GROUP_BITS) | (key & ((1 << GROUP_BITS) - 1))) & mask


@compiled
def find_node(fleet: Fleet, engine: int, block: int) -> int:
    """The node of `block` on `engine`, or NIL."""
    mask = len(fleet.table) - 1
    key = (engine << KEY_BITS) | block
    slot = _home(key, mask)
    while fleet.table[slot, KEY] != key:
        if fleet.table[slot, KEY] == NIL:
            return NIL
        slot = (slot + 1) & mask
    return fleet.table[slot, NODE_INDEX]


@inner
def _insert_node(fleet: Fleet, engine: int, block: int, parent: int) -> int:
    """A new pinned node; the caller knows there is none yet."""
    height = fleet.free_nodes[0]
    node = fleet.free_nodes[height]
    fleet.free_nodes[0] = height - 1
    record = fleet.nodes[node]
    key = (engine << KEY_BITS) | block
    record.key = key
    record.pins = 1
    record.parent = parent
    fleet.holders[block] += 1
    mask = len(fleet.table) - 1
    slot = _home(key, mask)
    while fleet.table[slot, KEY] != NIL:
        slot = (slot + 1) & mask
    fleet.table[slot, KEY] = key
    fleet.table[slot, NODE_INDEX] = node
    return node


@inner
def _remove_node(fleet: Fleet, node: int) -> None:
    """Take the node out of the table, closing the gap so that probes never meet a tombstone."""
    mask = len(fleet.table) - 1
    key = fleet.nodes[node].key
    fleet.holders[key & BLOCK_MASK] -= 1
    slot = _home(key, mask)
    while fleet.table[slot, KEY] != key:
        slot = (slot + 1) & mask
    hole = slot
    while True:
        slot = (slot + 1) & mask
        other = fleet.table[slot, KEY]
        if other == NIL:
            break
        if ((slot - _home(other, mask)) & mask) >= ((slot - hole) & mask):
            fleet.table[hole, KEY] = other
            fleet.table[hole, NODE_INDEX] = fleet.table[slot, NODE_INDEX]
            hole = slot
    fleet.table[hole, KEY] = NIL
    height = fleet.free_nodes[0] + 1
    fleet.free_nodes[height] = node
    fleet.free_nodes[0] = height


@fused
def _unlink(fleet: Fleet, engine: int, node: int) -> None:
    """Take an unpinned node out of the engine's LRU list."""
    host = fleet.engines[engine]
    record = fleet.nodes[node]
    if record.newer == NIL:
        host.lru_newest = record.older
    else:
        fleet.nodes[record.newer].older = record.older
    if record.older == NIL:
        host.lru_oldest = record.newer
    else:
        fleet.nodes[record.older].newer = record.newer


@fused
def _link_newest(fleet: Fleet, engine: int, node: int) -> None:
    """Put a node that was just unpinned at the newest end."""
    host = fleet.engines[engine]
    record = fleet.nodes[node]
    record.newer = NIL
    record.older = host.lru_newest
    if host.lru_newest == NIL:
        host.lru_oldest = node
    else:
        fleet.nodes[host.lru_newest].newer = node
    host.lru_newest = node


@compiled
def allocate(fleet: Fleet, engine: int, blocks: int) -> bool:
    """Take `blocks`, evicting cached nodes if needed; False, and nothing taken, when there are not enough."""
    host = fleet.engines[engine]
    if blocks > host.free_blocks + host.cached_blocks:
        return False
    while host.free_blocks < blocks:
        blocks_per_node = fleet.node_tokens // host.block_size
        oldest = host.lru_oldest
        _unlink(fleet, engine, oldest)
        _remove_node(fleet, oldest)
        host.cached_blocks -= blocks_per_node
        host.free_blocks += blocks_per_node
    host.free_blocks -= blocks
    return True


@inner
def known_nodes(fleet: Fleet, first: int, count: int, tokens: int) -> int:
    """How many leading nodes of a prompt some engine caches: no engine matches more. At least one of the prompt's
    `tokens` is always left to compute. Most prompts end in blocks nobody holds, so this saves look-ups per engine."""
    limit = min(count, (tokens - 1) // fleet.node_tokens)
    known = 0
    while known < limit and fleet.holders[fleet.block_ids[first + known]] > 0:
        known += 1
    return known


@compiled
def matching_nodes(fleet: Fleet, engine: int, first: int, known: int, hint: int) -> int:
    """How many of a prompt's `known` leading nodes are cached on `engine`: two look-ups when it is `hint`, as engines
    that share a system prompt mostly answer alike, else O(log known)."""
    if fleet.engines[engine].prefix_caching == 0 or known == 0:
        return 0
    matched, missing = 0, known + 1
    probe = min(hint, known)
    if probe == 0 or find_node(fleet, engine, fleet.block_ids[first + probe - 1]) != NIL:
        matched = probe
        if probe < known and find_node(fleet, engine, fleet.block_ids[first + probe]) == NIL:
            missing = probe + 1
    else:
        missing = probe
    while missing - matched > 1:
        middle = (matched + missing) >> 1
        if find_node(fleet, engine, fleet.block_ids[first + middle - 1]) != NIL:
            matched = middle
        else:
            missing = middle
    return matched


@inner
def match_of(fleet: Fleet, engine: int, slot: int) -> int:
    """How many leading nodes of a waiting sequence's prompt are cached on the engine."""
    sequence = fleet.sequences[slot]
    if fleet.engines[engine].prefix_caching == 0 or sequence.blocks_full == 0:
        return 0
    known = known_nodes(fleet, sequence.blocks_first, sequence.blocks_full, sequence.target)
    return matching_nodes(fleet, engine, sequence.blocks_first, known, known)


@fused
def _deepest_node(fleet: Fleet, engine: int, slot: int, matched: int) -> int:
    """The last of a sequence's `matched` leading nodes, or NIL."""
    if matched == 0:
        return NIL
    return find_node(fleet, engine, fleet.block_ids[fleet.sequences[slot].blocks_first + matched - 1])


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
    node = _deepest_node(fleet, engine, slot, matched)
    while shared > 0 and fleet.nodes[node].pins == 0:
        node = fleet.nodes[node].parent
        shared -= 1
    return needed - shared * (fleet.node_tokens // host.block_size) <= available


@inner
def reserve(fleet: Fleet, engine: int, slot: int, matched: int, tokens: int) -> bool:
    """Pin the `matched` leading nodes and take blocks for the rest of `tokens`; all or nothing."""
    if not fits(fleet, engine, slot, matched, tokens, 0):
        return False
    sequence = fleet.sequences[slot]
    node = _deepest_node(fleet, engine, slot, matched)
    sequence.deepest = node
    sequence.pinned = matched
    while node != NIL:
        _pin(fleet, engine, node)
        node = fleet.nodes[node].parent
    host = fleet.engines[engine]
    needed = blocks_for(tokens, host.block_size)
    if matched > 0:
        needed -= matched * (fleet.node_tokens // host.block_size)
    return allocate(fleet, engine, needed)


@inner
def _pin(fleet: Fleet, engine: int, node: int) -> None:
    host = fleet.engines[engine]
    if fleet.nodes[node].pins == 0:
        _unlink(fleet, engine, node)
        host.cached_blocks -= fleet.node_tokens // host.block_size
    fleet.nodes[node].pins += 1


@inner
def publish(fleet: Fleet, engine: int, slot: int, tokens: int) -> None:
    """Make the prompt blocks filled by the first `tokens` findable by other requests. A block another sequence has
    published meanwhile is shared and our copy freed."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    if host.prefix_caching == 0 or sequence.blocks_full == 0:
        return
    full = min(sequence.blocks_full, tokens // fleet.node_tokens)
    while sequence.pinned < full:
        block = fleet.block_ids[sequence.blocks_first + sequence.pinned]
        node = NIL if fleet.holders[block] == 0 else find_node(fleet, engine, block)
        if node == NIL:
            node = _insert_node(fleet, engine, block, sequence.deepest)
        else:
            _pin(fleet, engine, node)
            host.free_blocks += fleet.node_tokens // host.block_size
        sequence.deepest = node
        sequence.pinned += 1


@inner
def release(fleet: Fleet, engine: int, slot: int, tokens: int) -> None:
    """Give back what a sequence holding `tokens` has: private blocks at once, shared nodes when nobody pins them."""
    host = fleet.engines[engine]
    sequence = fleet.sequences[slot]
    held = blocks_for(tokens, host.block_size)
    if sequence.pinned > 0:
        blocks_per_node = fleet.node_tokens // host.block_size
        held -= sequence.pinned * blocks_per_node
        node = sequence.deepest
        while node != NIL:
            record = fleet.nodes[node]
            record.pins -= 1
            if record.pins == 0:
                _link_newest(fleet, engine, node)
                host.cached_blocks += blocks_per_node
            node = record.parent
        sequence.pinned = 0
        sequence.deepest = NIL
    host.free_blocks += held
