"""The remote methods that read governance: proposals, votes, stake, and the parameters that votes may change.

Each answers from keys of the state and proves them, absent ones too. Whoever locks stake, proposes or votes sends a
transaction.
"""

from chain.ledger.bounds import BOUNDS
from chain.ledger.governance_records import EMPTY_STAKE
from chain.ledger.keys import AGENDA_KEY, IN_FORCE_KEY, proposal_key, stake_key, vote_key
from node.rpc import governance_views
from node.rpc.api import NodeApi
from node.rpc.arguments import parse_account
from node.rpc.registry import AnyMethod, Method, Params
from node.rpc.views import Address, HashText, from_hex


class ProposalParams(Params, frozen=True):
    """A proposal, by its name."""

    proposal: HashText


class VoteParams(Params, frozen=True):
    """A proposal and an account."""

    proposal: HashText
    account: Address


class StakeParams(Params, frozen=True):
    """An account."""

    account: Address


async def _get_proposal(api: NodeApi, params: ProposalParams) -> governance_views.ProposalView:
    name = from_hex(params.proposal)
    return governance_views.view_proposal(name, api.get_state_entry(proposal_key(name)))


async def _list_proposals(api: NodeApi, _: Params) -> governance_views.ProposalsView:
    agenda = api.get_state_entry(AGENDA_KEY)
    assert agenda.record is not None
    names = (*(entry.name for entry in agenda.record.live), *agenda.record.decided)
    proposals = {name: api.get_state_entry(proposal_key(name)) for name in names}
    return governance_views.view_proposals(agenda, proposals)


async def _get_vote(api: NodeApi, params: VoteParams) -> governance_views.VoteView:
    name, account = from_hex(params.proposal), parse_account(params.account)
    proposal = api.get_state_entry(proposal_key(name)).record
    stake = api.get_state_entry(stake_key(account)).record or EMPTY_STAKE
    return governance_views.view_vote(name, account, api.get_state_entry(vote_key(name, account)), proposal, stake)


async def _get_stake(api: NodeApi, params: StakeParams) -> governance_views.StakeView:
    account = parse_account(params.account)
    entry = api.get_state_entry(stake_key(account))
    return governance_views.view_stake(account, entry.record or EMPTY_STAKE, entry)


async def _get_parameters(api: NodeApi, _: Params) -> governance_views.ParametersView:
    return governance_views.view_parameters(BOUNDS, api.get_state_entry(IN_FORCE_KEY))


GET_PROPOSAL = Method(
    "gov_getProposal",
    "A proposal at the head, with its proof.",
    ProposalParams,
    governance_views.ProposalView,
    _get_proposal,
)
LIST_PROPOSALS = Method(
    "gov_listProposals",
    "The live proposals and those decided last, with their proofs.",
    Params,
    governance_views.ProposalsView,
    _list_proposals,
)
GET_VOTE = Method(
    "gov_getVote",
    "An account's vote on a proposal at the head, with its proof.",
    VoteParams,
    governance_views.VoteView,
    _get_vote,
)
GET_STAKE = Method(
    "gov_getStake",
    "What an account has locked to vote with, with its proof.",
    StakeParams,
    governance_views.StakeView,
    _get_stake,
)
GET_PARAMETERS = Method(
    "gov_getParameters",
    "The parameters that votes may change: values in force, bounds and a proof.",
    Params,
    governance_views.ParametersView,
    _get_parameters,
)

GOVERNANCE_METHODS: tuple[AnyMethod, ...] = (GET_PROPOSAL, LIST_PROPOSALS, GET_VOTE, GET_STAKE, GET_PARAMETERS)
