"""The small ledger with auditors: who enters, who was drawn, and proofs as its stand-in for training wants them."""

from chain.audit import ProveAudit, RegisterAuditor, RetireAuditor
from chain.ledger.audit_records import Audit, Auditor
from chain.ledger.audits import compute_audit_challenge
from chain.ledger.keys import auditor_key, audits_key
from chain.ledger.records import ContributionKey
from chain.signature import SigningKey
from chain.transaction import Transaction
from tests.support.ledger import LedgerChain


class AuditedChain(LedgerChain):
    """A chain whose accounts may audit."""

    def register(self, key: SigningKey) -> Transaction:
        """Return the transaction by which an account becomes an auditor."""
        return self.sign(key, RegisterAuditor(self.context.parameters.auditor_bond))

    def auditor(self, key: SigningKey) -> Auditor | None:
        return self.view.get(auditor_key(key.public_key))

    def retire(self, key: SigningKey) -> Transaction:
        """Return the transaction by which an auditor leaves, or takes its bond back."""
        auditor = self.auditor(key)
        assert auditor is not None
        return self.sign(key, RetireAuditor(auditor.bond))

    def audits(self, miner: SigningKey, index: int = 0, round_number: int | None = None) -> tuple[Audit, ...]:
        number = self.state.round if round_number is None else round_number
        found = self.view.get(audits_key(self.trained, number, ContributionKey(miner.public_key, index)))
        return () if found is None else found.audits

    def prove_audit(self, auditor: SigningKey, miner: SigningKey, index: int = 0) -> ProveAudit:
        """Return the proof of an audit of a segment of the running round."""
        contribution = self.contribution(miner, index)
        challenge = compute_audit_challenge(contribution.challenge, auditor.public_key)
        digests = self.training.make_digests(self.content.get_sidecar(contribution.sidecar_hash), challenge)
        drawn = contribution.challenge
        return ProveAudit(self.trained, self.state.round, miner.public_key, index, drawn, digests)
