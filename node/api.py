"""The node as its RPC sees it: queries and submissions behind the one protocol `node.rpc.api.NodeApi`.

Every method is bound once, so a missing one shows to the type checker. It knows no JSON and no HTTP, and decides
nothing.
"""

from node.queries import NodeQueries
from node.submissions import NodeSubmissions


class Api:
    """Delegates every method of `NodeApi` to the half that implements it."""

    def __init__(self, queries: NodeQueries, submissions: NodeSubmissions) -> None:
        """Join the two halves."""
        self.get_genesis = queries.get_genesis
        self.get_genesis_hash = queries.get_genesis_hash
        self.get_head = queries.get_head
        self.get_headers = queries.get_headers
        self.get_header = queries.get_header
        self.prove_chain = queries.prove_chain
        self.prove_headers = queries.prove_headers
        self.get_hash_at_height = queries.get_hash_at_height
        self.get_block = queries.get_block
        self.get_account_proof = queries.get_account_proof
        self.get_miner_proof = queries.get_miner_proof
        self.get_state_entry = queries.get_state_entry
        self.find_resembling = queries.find_resembling
        self.list_state_records = queries.list_state_records
        self.get_transaction = queries.get_transaction
        self.get_task = queries.get_task
        self.find_task = queries.find_task
        self.list_tasks = queries.list_tasks
        self.get_task_data = queries.get_task_data
        self.get_checkpoint = queries.get_checkpoint
        self.get_checkpoint_content = queries.get_checkpoint_content
        self.get_contributions = queries.get_contributions
        self.get_disputes = queries.get_disputes
        self.get_assignments = queries.get_assignments
        self.get_peers = queries.get_peers
        self.get_status = queries.get_status
        self.get_next_nonce = queries.get_next_nonce
        self.report_rates = queries.report_rates
        self.send_transaction = submissions.send_transaction
        self.send_transactions = submissions.send_transactions
        self.get_work = submissions.get_work
        self.submit_ticket = submissions.submit_ticket
        self.submit_segment = submissions.submit_segment
        self.submit_openings = submissions.submit_openings
        self.submit_answer = submissions.submit_answer
