"""A light client that opens many tickets asks for more anchors than one question may name."""

from typing import Any, cast

import msgspec

from chain.codec import encode
from chain.primitives import Hash
from consensus.header_chain import ChainEntry
from consensus.header_proof import prove_headers
from node.light_chain import ChainReader, Clock
from node.rpc.api import HEIGHTS_MAX
from node.rpc.client import RpcClient
from node.rpc.methods import HeaderProofParams
from node.rpc.views import ProofView, to_hex
from tests.support.headers import NOW_MS, grow, make_chain, make_context


class BoundedNode:
    """Proves headers as a node does, and takes no parameters that a node would refuse."""

    def __init__(self, tip: ChainEntry) -> None:
        self.tip = tip

    def call(self, _method: object, params: HeaderProofParams) -> ProofView:
        taken: Any = msgspec.convert(msgspec.to_builtins(params), HeaderProofParams)
        return ProofView(to_hex(self.tip.hash), encode(prove_headers(self.tip, taken.heights)))


def test_headers_beyond_the_bound_of_one_question_are_asked_for_in_several() -> None:
    context = make_context()
    chain = make_chain(context)
    tip = grow(context, chain, chain.genesis, HEIGHTS_MAX + 3)
    reader = ChainReader(cast(RpcClient, BoundedNode(tip)), context, Clock(lambda: NOW_MS), chain.genesis)
    reader.tip = tip
    heights = list(range(1, HEIGHTS_MAX + 2))
    proven = reader.fetch_headers(heights)
    assert [each.header.height for each in proven] == heights
    assert [each.hash for each in proven] == [Hash(tip.get_ancestor(height).hash) for height in heights]
    assert reader.fetch_headers([]) == ()
