"""Specs by name and as strict JSON: the one form in which people write a model and how it is trained.

Unknown keys, missing keys, keys that stand twice and values of another type are refused, and so is what
`ml.spec.validate_spec` refuses. Rates are units of 2**-32 or decimal strings. It knows no data.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import msgspec

from chain.errors import DecodeError
from ml.spec import DIGITS, FORMAT_VERSION, Decoder, Mlp, Positions, Spec, encode_spec
from node.models.errors import ModelError
from node.models.rates import format_rate, parse_rate

SPEC_FILE_BYTES_MAX = 64 << 10

_PLAYS = Spec(
    version=FORMAT_VERSION,
    model=Decoder(256, 128, 192, 4, 6, 768, int(Positions.LEARNED), 0),
    batch=16,
    segment_steps=2_000,
    learning_rate=parse_rate("0.004"),
    weight_decay=parse_rate("0.1"),
    warmup_steps=100,
    decay_steps=1_900,
    warmup_rounds=0,
    decay_rounds=0,
    outer_momentum=8,
    outer_rate=16,
    delta_bits=8,
    heldout=32,
    init_seed=1,
)
_MNIST = replace(
    DIGITS,
    model=Mlp((784, 256, 256, 10)),
    segment_steps=1_500,
    learning_rate=parse_rate("0.004"),
    warmup_steps=75,
    decay_steps=1_425,
    heldout=1_000,
)


@dataclass(frozen=True, slots=True)
class NamedSpec:
    """A spec that this version knows by name."""

    name: str
    spec: Spec
    data: str
    """The data set that it was made for."""
    summary: str


_NAMED = (
    NamedSpec("digits", DIGITS, "digits", "8x8 handwritten digits: a classifier that learns in a second"),
    NamedSpec(
        "mnist_5k",
        _MNIST,
        "mnist_5k",
        "28x28 handwritten digits: a classifier with two hidden layers",
    ),
    NamedSpec(
        "plays-tiny",
        replace(
            _PLAYS,
            model=Decoder(256, 64, 64, 2, 4, 256, int(Positions.LEARNED), 0),
            batch=8,
            segment_steps=500,
            warmup_steps=25,
            decay_steps=475,
        ),
        "plays",
        "plays, a decoder of 0.13 million parameters to try things out",
    ),
    NamedSpec("plays", _PLAYS, "plays", "plays, a decoder of 1.9 million parameters"),
    NamedSpec(
        "sympy",
        replace(_PLAYS, model=Decoder(256, 256, 256, 4, 8, 1_024, int(Positions.ROTARY), 0), batch=8),
        "sympy",
        "Python source, a decoder of 3.3 million parameters with rotary positions",
    ),
)


class _Mlp(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="mlp"):
    """A classifier as JSON."""

    widths: tuple[int, ...]


class _Decoder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="decoder"):
    """A decoder as JSON."""

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    hidden: int
    positions: Literal["learned", "rotary"]
    tied: bool


class SpecForm(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A spec as JSON."""

    version: int
    model: _Mlp | _Decoder
    batch: int
    segment_steps: int
    learning_rate: int | str
    weight_decay: int | str
    warmup_steps: int
    decay_steps: int
    warmup_rounds: int
    decay_rounds: int
    outer_momentum: int
    outer_rate: int
    delta_bits: int
    heldout: int
    init_seed: int


def list_specs() -> tuple[NamedSpec, ...]:
    """Return the specs that this version knows by name."""
    return _NAMED


def find_spec(name_or_path: str) -> NamedSpec:
    """Return the spec of a name, or that of a JSON file with its data set unnamed; raises ModelError or OSError."""
    for named in _NAMED:
        if named.name == name_or_path:
            return named
    path = Path(name_or_path).expanduser()
    if not path.is_file():
        names = ", ".join(named.name for named in _NAMED)
        raise ModelError("unknown-spec", f"found no {name_or_path!r}, expected one of {names}, or a file (.json)")
    with path.open("rb") as file:
        data = file.read(SPEC_FILE_BYTES_MAX + 1)
    try:
        return NamedSpec(path.stem, parse_spec(data), "", str(path))
    except ModelError as error:
        raise ModelError(
            error.rule, f"{path}: {error.message}; `mathesis model specs --json` prints examples"
        ) from None


def parse_spec(data: bytes) -> Spec:
    """Return the valid spec that JSON text describes; raises ModelError."""
    if len(data) > SPEC_FILE_BYTES_MAX:
        raise ModelError("bad-spec", f"found more than {SPEC_FILE_BYTES_MAX} bytes of JSON, expected a spec")
    try:
        json.loads(data, object_pairs_hook=_refuse_twice)
        form = msgspec.json.decode(data, type=SpecForm)
    except (ValueError, RecursionError) as error:
        # msgspec's errors, those of Unicode and those of JSON are all ValueErrors.
        raise ModelError("bad-spec", f"{error}{_make_hint(str(error))}") from None
    return make_spec(form)


def make_spec(form: SpecForm) -> Spec:
    """Return the valid spec of a form; raises ModelError."""
    model: Mlp | Decoder
    if isinstance(form.model, _Mlp):
        model = Mlp(form.model.widths)
    else:
        fields = msgspec.structs.asdict(form.model)
        model = Decoder(
            **fields | {"positions": int(Positions[form.model.positions.upper()]), "tied": int(form.model.tied)}
        )
    fields = {name: getattr(form, name) for name in form.__struct_fields__}
    rates = {name: _read_rate(fields[name]) for name in ("learning_rate", "weight_decay")}
    return validate(Spec(**fields | rates | {"model": model}))


def make_form(spec: Spec) -> SpecForm:
    """Return the JSON form of a valid spec, with rates as decimal strings."""
    model: _Mlp | _Decoder
    if isinstance(spec.model, Mlp):
        model = _Mlp(spec.model.widths)
    else:
        texts = {"positions": Positions(spec.model.positions).name.lower(), "tied": bool(spec.model.tied)}
        model = _Decoder(**{name: getattr(spec.model, name) for name in _Decoder.__struct_fields__} | texts)
    fields = {name: getattr(spec, name) for name in SpecForm.__struct_fields__}
    rates = {name: format_rate(fields[name]) for name in ("learning_rate", "weight_decay")}
    return SpecForm(**fields | rates | {"model": model})


def format_spec(spec: Spec) -> str:
    """Return a valid spec as JSON that `parse_spec` reads back."""
    return msgspec.json.format(msgspec.json.encode(make_form(spec)), indent=2).decode()


def validate(spec: Spec) -> Spec:
    """Return `spec` when it is within every bound; raises ModelError."""
    try:
        encode_spec(spec)
    except DecodeError as error:
        raise ModelError("bad-spec", str(error)) from None
    return spec


def _read_rate(rate: int | str) -> int:
    return parse_rate(rate) if isinstance(rate, str) else rate


def _make_hint(message: str) -> str:
    if "`float`" in message and ("learning_rate" in message or "weight_decay" in message):
        return '; write a decimal as text: "0.004"'
    return ""


def _refuse_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"found the key {twice!r} twice, expected it once")
    return fields
