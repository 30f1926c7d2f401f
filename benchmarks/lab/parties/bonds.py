"""Miners' bonds from a chain's blocks alone: who has posted one, since when it answers, and when it is free.

It moves no money: whose it becomes, the accounts say.
"""

from dataclasses import dataclass, field

from chain.genesis import Parameters
from chain.primitives import PublicKey


@dataclass(slots=True)
class Bond:
    """What a miner has locked, the block that it was posted in, and from when on it is free; 0 without notice."""

    atoms: int
    since: int
    release: int = 0


@dataclass(slots=True)
class Bonds:
    """The bonds that stand, by miner."""

    parameters: Parameters
    bonds: dict[PublicKey, Bond] = field(default_factory=dict)

    @property
    def locked(self) -> int:
        """Atoms of all bonds."""
        return sum(bond.atoms for bond in self.bonds.values())

    def post(self, height: int, miner: PublicKey) -> int:
        """Take a bond; return its atoms."""
        self.bonds[miner] = Bond(self.parameters.bond, height)
        return self.parameters.bond

    def withdraw(self, height: int, miner: PublicKey) -> int:
        """Give notice, or take a bond out; return the atoms that come back."""
        bond = self.bonds[miner]
        if bond.release:
            return self.bonds.pop(miner).atoms
        bond.release = height + self.parameters.evidence_blocks + 1
        return 0

    def burn(self, height: int, miner: PublicKey) -> int:
        """Take the bond that answered for a header at a height, if it stands still; return its atoms."""
        bond = self.bonds.get(miner)
        if bond is None or bond.since >= height:
            return 0
        return self.bonds.pop(miner).atoms
