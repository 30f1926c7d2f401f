"""The records of the economy: data sets, models, shares and licences, each whole under one key of the state.

What was registered stands in them as it was signed, under `terms`, and never changes. They hold what is so, not what
may follow. Bounds: units fit 128 bits, as each settled segment adds less than 2^64 and rounds are counted by 32 bits;
a payment raises `per_unit` by less than 2^128, so 2^128 payments fit; atoms are bounded by the supply.
"""

from dataclasses import dataclass
from typing import Annotated

from chain.codec import U8, U16, U64, U256, Bytes, HashField, Many, PublicKeyField
from chain.transaction import PostBounty, RegisterDataset, RegisterModel, Units

OPEN_BOUNTIES_MAX = 64
"""Bounties that a settlement looks at."""

SKETCH_BYTES = 384
"""96 minima of 4 bytes: what is kept of a content to find those that resemble it."""

DATASET_PARTS_MAX = 19
"""Parts of the largest data set."""

BAND_DATASETS_MAX = 4
"""Data sets that a band names. It bounds what a posting looks at to 128 sketches."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """A registered data set. Whatever royalty it takes goes to its owner."""

    owner: PublicKeyField
    terms: RegisterDataset
    registered_height: U64


@dataclass(frozen=True, slots=True)
class DatasetPart:
    """Which block data hold a part of a data set."""

    index: U16
    sidecar_hash: HashField


@dataclass(frozen=True, slots=True)
class DatasetParts:
    """What has come of a data set's content of `size_bytes`: parts, ascending, and the least minima of all of them."""

    size_bytes: U64
    parts: Annotated[tuple[DatasetPart, ...], Many(DATASET_PARTS_MAX)]
    minima: Annotated[bytes, Bytes(SKETCH_BYTES, SKETCH_BYTES)]


@dataclass(frozen=True, slots=True)
class DatasetSketch:
    """The minima of a data set's content, all of which has come; they never change."""

    minima: Annotated[bytes, Bytes(SKETCH_BYTES, SKETCH_BYTES)]


@dataclass(frozen=True, slots=True)
class BandEntry:
    """A data set whose sketch has a band's minima."""

    registered_height: U64
    dataset: HashField


@dataclass(frozen=True, slots=True)
class SketchBand:
    """Those registered first of the data sets whose sketches agree in a band, in that order, then by name."""

    entries: Annotated[tuple[BandEntry, ...], Many(BAND_DATASETS_MAX)]


@dataclass(frozen=True, slots=True)
class Model:
    """A registered model, its place in the lineage, and the account of its shareholders.

    `held` atoms of their income were not claimed yet, of which `waiting` came while there was no unit. A unit has
    earned `per_unit` since registration, in 2^-64 atoms; `remainder` of those, below `units`, are not divided yet.
    """

    owner: PublicKeyField
    terms: RegisterModel
    registered_height: U64
    depth: U8
    units: Units
    held: U64
    waiting: U64
    per_unit: U256
    remainder: Units


@dataclass(frozen=True, slots=True)
class Shares:
    """An account's units of a model: `earned` atoms and `fraction` 2^-64 atoms when a unit had earned `seen`."""

    units: Units
    seen: U256
    earned: U64
    fraction: U64


EMPTY_SHARES = Shares(units=0, seen=0, earned=0, fraction=0)
"""What an account has of a model that the state holds no shares of."""


@dataclass(frozen=True, slots=True)
class Licence:
    """That an account bought a model's licence, in which block and for how many atoms."""

    height: U64
    price: U64


@dataclass(frozen=True, slots=True)
class Bounty:
    """Atoms that wait for a task's model to reach the mark in `terms`, or go back to whoever posted them."""

    poster: PublicKeyField
    terms: PostBounty
    posted_height: U64


@dataclass(frozen=True, slots=True)
class OpenBounties:
    """The bounties of a task that are not decided, oldest first."""

    names: Annotated[tuple[HashField, ...], Many(OPEN_BOUNTIES_MAX)]


@dataclass(frozen=True, slots=True)
class RegisteredContent:
    """The data set or model that a content root was first registered for."""

    name: HashField
