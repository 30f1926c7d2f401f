"""Strategies that draw any valid record from the ranges its annotations carry, edges included.

They read the same annotations as the codec but share none of its code: a codec that forgot a field or a range would
disagree.
"""

from dataclasses import fields
from types import UnionType
from typing import Annotated, Union, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from chain.block import Block
from chain.codec import Bytes, Many, Tagged, Text, Uint
from chain.genesis import Genesis
from chain.header import Header
from chain.ledger.records import (
    Account,
    BeaconRecord,
    Checkpoint,
    Contribution,
    LockedReward,
    Miner,
    Supply,
    TaskState,
)
from chain.state.proof import StateProof
from chain.ticket import Ticket, TicketOpening
from chain.transaction import Sidecar, Transaction
from consensus.header_proof import HeaderProof
from ml.spec import Spec
from ml.tensor_tree import PieceOpening

RECORDS: tuple[type, ...] = (
    *(Ticket, TicketOpening, Header, Transaction, Sidecar, Block, Genesis),
    *(Account, BeaconRecord, Checkpoint, Contribution, LockedReward, Miner, Supply, TaskState, StateProof),
    *(HeaderProof, Spec, PieceOpening),
)
"""Every record that travels, is stored or is hashed on its own; messages of peers are tested beside them."""
BYTES_DRAWN_MAX = 80
ITEMS_DRAWN_MAX = 3


def any_record(cls: type) -> st.SearchStrategy[object]:
    """Return a strategy for records of type `cls`."""
    hints = get_type_hints(cls, include_extras=True)
    return st.builds(cls, **{field.name: _any_field(hints[field.name]) for field in fields(cls)})


def _any_field(hint: object) -> st.SearchStrategy[object]:
    if get_origin(hint) is not Annotated:
        assert isinstance(hint, type)
        return any_record(hint)
    base, annotation = get_args(hint)[:2]
    match annotation:
        case Uint(bits=bits):
            edges = st.sampled_from([0, 1, 127, 128, 255, (1 << bits - 1) - 1, 1 << bits - 1, (1 << bits) - 1])
            return st.one_of(edges.filter(lambda value: value < 1 << bits), st.integers(0, (1 << bits) - 1))
        case Bytes(size_min=low, size_max=high):
            return st.binary(min_size=low, max_size=max(low, min(high, BYTES_DRAWN_MAX)))
        case Text(size_max=high):
            return st.text(max_size=high // 4)
        case Many(length_max=high):
            return st.lists(_any_field(get_args(base)[0]), max_size=min(high, ITEMS_DRAWN_MAX)).map(tuple)
        case Tagged():
            assert get_origin(base) in (Union, UnionType)
            return st.one_of([any_record(choice) for choice in get_args(base)])
    raise AssertionError(f"no strategy for {hint!r}")
