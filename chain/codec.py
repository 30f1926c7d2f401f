"""The one canonical encoding: msgpack arrays, described by the types of frozen dataclasses.

A record is an array of its fields in order. `decode` refuses whatever `encode` would not have written, so a record has
exactly one encoding and its hash names it. It knows no record; the field types (`U64`, `HashField`, ...) carry
the ranges. Up to `UNPACKED_AT_ONCE_MAX` bytes are unpacked at once; more are read item by item, led by the schema, so
a hostile message builds nothing that its record does not have. Maps, floats, extension types and trailing bytes never
occur. Source: msgpack specification.
"""

import types
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import msgpack

from chain.errors import DecodeError
from chain.primitives import Hash, PublicKey, Signature

Wire = int | bytes | str | None | list["Wire"]
T = TypeVar("T")

UNPACKED_AT_ONCE_MAX = 1024
"""Bytes of which even the worst message builds no more than a few tens of kilobytes, before a schema has seen it."""


@dataclass(frozen=True, slots=True)
class Uint:
    """An unsigned integer of at most `bits` bits; above 64 bits it travels as big-endian bytes."""

    bits: int

    def make_writer(self) -> Callable[[object], Wire]:
        """Return what writes an integer, or raises DecodeError when it is out of range."""
        bits, limit, size_bytes = self.bits, 1 << self.bits, self.bits // 8

        def validate(value: object) -> int:
            if type(value) is int and 0 <= value < limit:
                return value
            found = f"{value!r:.80}" if type(value) is int else _describe(value)
            raise DecodeError(f"expected an integer in [0, 2^{bits}), found {found}")

        return validate if bits <= 64 else lambda value: validate(value).to_bytes(size_bytes, "big")

    @property
    def test(self) -> str:
        """A Python expression over `{0}` that holds for an integer in range that is its own item; empty for none."""
        return f"type({{0}}) is int and 0 <= {{0}} < {1 << self.bits}" if self.bits <= 64 else ""

    def make_taker(self) -> Callable[[object], object]:
        """Return what takes an integer from its item, or raises DecodeError."""
        size_bytes = self.bits // 8

        def take_wide(found: object) -> object:
            if type(found) is bytes and len(found) == size_bytes:
                return int.from_bytes(found, "big")
            raise DecodeError(f"expected {size_bytes} bytes of integer, found {_describe(found)}")

        return self.make_writer() if self.bits <= 64 else take_wide


@dataclass(frozen=True, slots=True)
class Bytes:
    """A byte string of `size_min` to `size_max` bytes."""

    size_min: int
    size_max: int

    def make_writer(self) -> Callable[[object], Wire]:
        """Return what writes bytes, or raises DecodeError when their size is out of range."""
        size_min, size_max = self.size_min, self.size_max

        def validate(value: object) -> bytes:
            if type(value) is bytes and size_min <= len(value) <= size_max:
                return value
            raise DecodeError(f"expected {size_min} to {size_max} bytes, found {_describe(value)}")

        return validate

    @property
    def test(self) -> str:
        """A Python expression over `{0}` that holds for bytes whose size is in range."""
        return f"type({{0}}) is bytes and {self.size_min} <= len({{0}}) <= {self.size_max}"

    def make_taker(self) -> Callable[[object], object]:
        """Return what takes bytes from their item; on the wire they stand as they are."""
        return self.make_writer()


@dataclass(frozen=True, slots=True)
class Text:
    """A UTF-8 string of at most `size_max` bytes."""

    size_max: int

    def make_writer(self) -> Callable[[object], Wire]:
        """Return what writes text, or raises DecodeError when it is too long."""

        def validate(value: object) -> str:
            if type(value) is not str or len(value.encode("utf-8", "replace")) > self.size_max:
                raise DecodeError(f"expected text of at most {self.size_max} bytes, found {_describe(value)}")
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise DecodeError("expected text that UTF-8 can write, found half of a surrogate pair")
            return value

        return validate

    @property
    def test(self) -> str:
        """Empty: no short expression says what text is."""
        return ""

    def make_taker(self) -> Callable[[object], object]:
        """Return what takes text from its item; on the wire it stands as it is."""
        return self.make_writer()


@dataclass(frozen=True, slots=True)
class Many:
    """A tuple of at most `length_max` items; the item's type comes from the annotation."""

    length_max: int


@dataclass(frozen=True, slots=True)
class Tagged:
    """A choice between record types; on the wire `[position in the union, record]`."""


U8 = Annotated[int, Uint(8)]
U16 = Annotated[int, Uint(16)]
U32 = Annotated[int, Uint(32)]
U64 = Annotated[int, Uint(64)]
U256 = Annotated[int, Uint(256)]
HashField = Annotated[Hash, Bytes(32, 32)]
PublicKeyField = Annotated[PublicKey, Bytes(32, 32)]
SignatureField = Annotated[Signature, Bytes(64, 64)]


@dataclass(frozen=True, slots=True)
class _FieldCodec:
    """How a field is written, how its item is read when all is unpacked, and how it is read off a stream of items.

    Where `test` holds a value is its own item, and neither of the first two need be called.
    """

    to_wire: Callable[[object], Wire]
    from_wire: Callable[[object], object]
    read: Callable[[msgpack.Unpacker], object]
    test: str = ""


_CODECS: dict[type, _FieldCodec] = {}


def encode(record: object) -> bytes:
    """Return the canonical bytes of a record; raises DecodeError when a field is out of its range."""
    packed: bytes = msgpack.packb(_record_codec(type(record)).to_wire(record), use_bin_type=True)
    return packed


def decode(cls: type[T], data: bytes, size_bytes_max: int) -> T:
    """Return the record of type `cls` whose canonical encoding is `data`; raises DecodeError.

    The size is checked before anything is parsed, and the result is encoded again and compared.
    """
    if len(data) > size_bytes_max:
        raise DecodeError(f"{cls.__name__}: found {len(data)} bytes, expected at most {size_bytes_max}")
    codec = _record_codec(cls)
    try:
        if len(data) <= UNPACKED_AT_ONCE_MAX:
            wire = msgpack.unpackb(data, raw=False, max_map_len=0, max_ext_len=0)
            record, canonical = codec.from_wire(wire), msgpack.packb(wire, use_bin_type=True)
        else:
            record = codec.read(_make_reader(data))
            canonical = msgpack.packb(codec.to_wire(record), use_bin_type=True)
    except msgpack.ExtraData:
        canonical = b""
    except (ValueError, msgpack.UnpackException) as error:
        raise DecodeError(f"{cls.__name__}: not msgpack of this shape: {error}") from None
    if canonical != data:
        raise DecodeError(f"{cls.__name__}: the encoding is not the canonical one")
    return cast(T, record)


def compute_array_header(length: int) -> bytes:
    """Return the bytes that an array of `length` items starts with."""
    header: bytes = msgpack.Packer().pack_array_header(length)
    return header


def _make_reader(data: bytes) -> msgpack.Unpacker:
    reader = msgpack.Unpacker(raw=False, max_array_len=0, max_map_len=0, max_ext_len=0, max_buffer_size=len(data) + 1)
    reader.feed(data)
    return reader


def _describe(value: object) -> str:
    # Never the content of a list: a kilobyte nests deeply enough for its text to overflow the stack.
    if isinstance(value, bytes | str | list):
        return f"{type(value).__name__} of length {len(value)}"
    return f"{type(value).__name__} {value!r:.40}"


def _read_array(reader: msgpack.Unpacker, label: str, length_min: int, length_max: int) -> int:
    length: int = reader.read_array_header()
    _validate_length(length, label, length_min, length_max)
    return length


def _take_array(found: object, label: str, length_min: int, length_max: int) -> list[object]:
    if type(found) is not list:
        raise DecodeError(f"{label}: expected an array, found {_describe(found)}")
    _validate_length(len(found), label, length_min, length_max)
    return found


def _validate_length(length: int, label: str, length_min: int, length_max: int) -> None:
    if not length_min <= length <= length_max:
        raise DecodeError(f"{label}: expected an array of {length_min} to {length_max}, found {length}")


def _record_codec(cls: type) -> _FieldCodec:
    codec = _CODECS.get(cls)
    if codec is None:
        codec = _CODECS[cls] = _build_record_codec(cls)
    return codec


def _build_record_codec(cls: type) -> _FieldCodec:
    if not is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is no record")
    hints = get_type_hints(cls, include_extras=True)
    names = tuple(field.name for field in fields(cls))
    codecs = tuple(_field_codec(hints[name]) for name in names)
    writers = tuple((codec.to_wire, name) for codec, name in zip(codecs, names, strict=True))
    takers, readers = tuple(codec.from_wire for codec in codecs), tuple(codec.read for codec in codecs)
    label = cls.__name__

    def to_wire(record: object) -> Wire:
        if type(record) is not cls:
            raise DecodeError(f"expected a {label}, found {type(record).__name__}")
        return [write(getattr(record, name)) for write, name in writers]

    def from_wire(found: object) -> object:
        items = _take_array(found, label, len(names), len(names))
        values: list[object] = []
        try:
            for take, item in zip(takers, items, strict=True):
                values.append(take(item))
        except DecodeError as error:
            raise DecodeError(f"{label}.{names[len(values)]}: {error}") from None
        return cls(*values)

    def read(reader: msgpack.Unpacker) -> object:
        _read_array(reader, label, len(names), len(names))
        values: list[object] = []
        try:
            for read_field in readers:
                values.append(read_field(reader))
        except DecodeError as error:
            raise DecodeError(f"{label}.{names[len(values)]}: {error}") from None
        return cls(*values)

    return _compile(cls, tuple(zip(names, codecs, strict=True)), _FieldCodec(to_wire, from_wire, read))


def _compile(cls: type, codecs: tuple[tuple[str, _FieldCodec], ...], careful: _FieldCodec) -> _FieldCodec:
    """Return `careful` with a record's fields written out, no call for what is its own item; faults are left to it.

    Source: the standard library's `dataclasses`, which makes each record's constructor in this way.
    """
    parts = [(f"v{n}", name, codec.test.format(f"v{n}")) for n, (name, codec) in enumerate(codecs)]
    values = "".join(f"{value}, " for value, _, _ in parts)
    items = ", ".join(value if test else f"write_{name}({value})" for value, name, test in parts)
    test = " and ".join(test for _, _, test in parts if test) or "True"
    lines = [
        "def to_wire(record):",
        "    if type(record) is cls:",
        f"        ({values}) = ({''.join(f'record.{name}, ' for name, _ in codecs)})",
        f"        if {test}:",
        f"            return [{items}]",
        "    return careful.to_wire(record)",
        "def from_wire(found):",
        f"    if type(found) is list and len(found) == {len(parts)}:",
        f"        ({values}) = found",
        f"        if {test}:",
    ]
    for value, name, own_test in parts:
        if not own_test:
            lines += [
                "            try:",
                f"                {value} = take_{name}({value})",
                "            except DecodeError as error:",
                f"                raise DecodeError(f'{cls.__name__}.{name}: {{error}}') from None",
            ]
    lines += [f"            return cls({values})", "    return careful.from_wire(found)"]
    scope: dict[str, object] = {"cls": cls, "careful": careful, "DecodeError": DecodeError}
    scope |= {f"write_{name}": codec.to_wire for name, codec in codecs}
    scope |= {f"take_{name}": codec.from_wire for name, codec in codecs}
    exec("\n".join(lines), scope)  # noqa: S102 - made of names and bounds of our own records alone
    to_wire = cast("Callable[[object], Wire]", scope["to_wire"])
    return _FieldCodec(to_wire, cast("Callable[[object], object]", scope["from_wire"]), careful.read)


def _field_codec(hint: object) -> _FieldCodec:
    if isinstance(hint, type) and is_dataclass(hint):
        return _record_codec(hint)
    if get_origin(hint) is not Annotated:
        raise TypeError(f"field type {hint!r} carries no range")
    base, *annotations = get_args(hint)
    for annotation in annotations:
        if isinstance(annotation, Uint | Bytes | Text):
            return _scalar_codec(annotation)
        if isinstance(annotation, Many):
            return _many_codec(base, annotation)
        if isinstance(annotation, Tagged):
            return _tagged_codec(base)
    raise TypeError(f"field type {hint!r} carries no range")


def _scalar_codec(scalar: Uint | Bytes | Text) -> _FieldCodec:
    take = scalar.make_taker()
    return _FieldCodec(scalar.make_writer(), take, lambda reader: take(reader.unpack()), scalar.test)


def _many_codec(base: object, many: Many) -> _FieldCodec:
    item_hint, ellipsis = get_args(base)
    if ellipsis is not Ellipsis:
        raise TypeError(f"{base!r} is not tuple[item, ...]")
    item = _field_codec(item_hint)

    def to_wire(values: object) -> Wire:
        if type(values) is not tuple or len(values) > many.length_max:
            raise DecodeError(f"expected a tuple of at most {many.length_max}, found {_describe(values)}")
        return [item.to_wire(value) for value in values]

    def from_wire(found: object) -> object:
        return tuple(map(item.from_wire, _take_array(found, "items", 0, many.length_max)))

    def read(reader: msgpack.Unpacker) -> object:
        length = _read_array(reader, "items", 0, many.length_max)
        return tuple(item.read(reader) for _ in range(length))

    return _FieldCodec(to_wire, from_wire, read)


def _tagged_codec(base: object) -> _FieldCodec:
    if get_origin(base) not in (Union, types.UnionType):
        raise TypeError(f"{base!r} is not a union of records")
    choices = get_args(base)
    codecs = tuple(_record_codec(choice) for choice in choices)

    def to_wire(value: object) -> Wire:
        if type(value) not in choices:
            raise DecodeError(f"expected one of {[c.__name__ for c in choices]}, found {type(value).__name__}")
        tag = choices.index(type(value))
        return [tag, codecs[tag].to_wire(value)]

    def from_wire(found: object) -> object:
        tag, item = found if type(found) is list and len(found) == 2 else _take_array(found, "choice", 2, 2)
        return get_choice(tag).from_wire(item)

    def read(reader: msgpack.Unpacker) -> object:
        _read_array(reader, "choice", 2, 2)
        return get_choice(reader.unpack()).read(reader)

    def get_choice(tag: object) -> _FieldCodec:
        if type(tag) is not int or not 0 <= tag < len(choices):
            raise DecodeError(f"expected a tag below {len(choices)}, found {_describe(tag)}")
        return codecs[tag]

    return _FieldCodec(to_wire, from_wire, read)
