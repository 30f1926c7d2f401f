"""Which blocks that move no head are kept: those that may be joined yet, of miners who have something to lose.

Targets follow the clock, so on old blocks tickets cost next to nothing; a bond bounds who may make such blocks, and the
height how far back. What the heaviest headers ask for is always kept: that branch may bond other keys. It reads a chain
and changes nothing; how many blocks are kept in all, the chain says.
"""

from chain.header import Header
from chain.ledger.bonds import NOTHING
from chain.primitives import Hash
from consensus.header_chain import is_ancestor
from node.chain import REORG_BLOCKS, Chain
from node.outcomes import ImportOutcome, ImportResult


def refuse_beside(chain: Chain, header: Header, block_hash: Hash) -> ImportOutcome | None:
    """Return why a block is not to be looked at further, None when it may; what is evidence may, at any depth."""
    heaviest = chain.get_heaviest_header()
    is_wanted = header.height <= heaviest.height and heaviest.get_ancestor(header.height).hash == block_hash
    if header.trunk.total_work > chain.head.total_work or is_wanted:
        return None
    if _is_too_deep(chain, header) and chain.contents.get_other(header) is None:
        return _make_too_deep(header, block_hash)
    if not chain.parameters.bond or chain.get_forfeit(header) != NOTHING:
        return None
    message = f"found a block beside the head of {header.foliage.miner.hex()}, expected one that has a bond to lose"
    return ImportOutcome(ImportResult.REFUSED, block_hash, "side-stake", message)


def refuse_too_deep(chain: Chain, block_hash: Hash) -> ImportOutcome | None:
    """Return why a block is not stored whose header is kept: it was let in for its header, which is evidence."""
    entry = chain.headers.get(block_hash)
    assert entry is not None
    is_light = entry.total_work <= chain.head.total_work
    if is_light and _is_too_deep(chain, entry.header) and not is_ancestor(entry, chain.get_heaviest_header()):
        return _make_too_deep(entry.header, block_hash)
    return None


def _is_too_deep(chain: Chain, header: Header) -> bool:
    return header.height + REORG_BLOCKS <= chain.head.height


def _make_too_deep(header: Header, block_hash: Hash) -> ImportOutcome:
    message = f"found a block beside the head at height {header.height}, expected one less than {REORG_BLOCKS} below it"
    return ImportOutcome(ImportResult.REFUSED, block_hash, "side-depth", message)
