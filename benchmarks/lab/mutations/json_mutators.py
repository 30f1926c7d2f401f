"""Mutators that know JSON: other types, numbers at bounds, keys dropped and doubled, depth, and records within.

A node's answer is JSON whose larger parts are canonical bytes in base64; those are altered as bytes too. They know no
method: whatever stands in an object or a list can be altered.
"""

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from random import Random

from benchmarks.lab.mutations.byte_mutators import BYTE_MUTATORS
from benchmarks.lab.mutations.target import Mutator

Node = dict[str, "Node"] | list["Node"] | str | int | float | bool | None
Key = str | int

NUMBERS = ("0", "-1", "-0", "1.0", "1e0", "1e400", "NaN", "Infinity", "9007199254740993", "1" + "0" * 400, "01")
TEXTS = ("", "0x", "0X", " ", "\ud800", "\u0000", "0x" + "00" * 32, "0x" + "AB" * 32, "00", "+1", "1_0", "\u0661")
DEPTH_BITS_MAX = 14
DESCENT = 0.85

_HOLE = "\u2063hole\u2063"


def alter_node(write: Callable[[Random, Node, Node], str]) -> Mutator:
    """Return the mutator that replaces one node by what `write` says, given that node and one of another answer."""

    def mutate(rng: Random, data: bytes, other: bytes) -> bytes:
        holder: list[Node] = [json.loads(data)]
        given: list[Node] = [json.loads(other)]
        parent, key = _choose(rng, holder)
        other_parent, other_key = _choose(rng, given)
        text = write(rng, _get(parent, key), _get(other_parent, other_key))
        _put(parent, key, _HOLE)
        return json.dumps(holder[0]).replace(json.dumps(_HOLE), text, 1).encode("utf-8", "surrogatepass")

    return mutate


def _choose(rng: Random, holder: list[Node]) -> tuple[dict[str, Node] | list[Node], Key]:
    parent: dict[str, Node] | list[Node] = holder
    key: Key = 0
    while isinstance(node := _get(parent, key), dict | list) and node and rng.random() < DESCENT:
        parent = node
        key = rng.choice(sorted(node)) if isinstance(node, dict) else rng.randrange(len(node))
    return parent, key


def _get(parent: dict[str, Node] | list[Node], key: Key) -> Node:
    return parent[key]  # type: ignore[index]  # a key of its own parent


def _put(parent: dict[str, Node] | list[Node], key: Key, value: Node) -> None:
    parent[key] = value  # type: ignore[index]  # a key of its own parent


def iter_objects(node: Node) -> Iterator[dict[str, Node]]:
    """Yield every object in a node, outermost first."""
    if isinstance(node, dict):
        yield node
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from iter_objects(each)


def change_type(rng: Random, node: Node, _other: Node) -> str:
    """Write something of another type."""
    whole = json.dumps(node)
    return rng.choice(("null", "true", "[]", "{}", '""', "0", f"[{whole}]", f'{{"a":{whole}}}', json.dumps(whole)))


def write_number(rng: Random, node: Node, _other: Node) -> str:
    """Write a number beside the one that stands there, at a bound, or in a form of its own; as text where text was."""
    if isinstance(node, str) and node.isascii() and node.isdigit():
        return json.dumps(rng.choice((str(int(node) + 1), "0" + node, node + "0", "-" + node, *NUMBERS)))
    if isinstance(node, int):
        return rng.choice((str(node + 1), str(node - 1), f"{node}.0", *NUMBERS))
    return rng.choice(NUMBERS)


def write_text(rng: Random, node: Node, other: Node) -> str:
    """Write text beside the text that stands there, or any."""
    if isinstance(node, str) and node:
        place = rng.randrange(len(node))
        changed = node[:place] + rng.choice("0f1ZÄ=\n") + node[place + 1 :]
        return json.dumps(rng.choice((changed, node.upper(), node + "\n", node[:place], node * 2, *TEXTS)))
    return json.dumps(rng.choice(TEXTS)) if rng.random() < 0.5 else json.dumps(other)


def alter_record(rng: Random, node: Node, other: Node) -> str:
    """Alter bytes that travel as base64, or write them with an alphabet or padding that nobody uses."""
    data, given = _read_base64(node), _read_base64(other)
    if not data:
        return json.dumps(base64.b64encode(rng.randbytes(40)).decode())
    text = base64.b64encode(data).decode()
    if rng.random() < 0.2:
        return json.dumps(rng.choice((text.rstrip("="), text + "=", text + "A", "", text[1:])))
    altered = BYTE_MUTATORS[rng.choice(list(BYTE_MUTATORS))](rng, data, given or data)
    return json.dumps(base64.b64encode(altered).decode())


def _read_base64(node: Node) -> bytes:
    try:
        return base64.b64decode(node, validate=True) if isinstance(node, str) else b""
    except (ValueError, binascii.Error):
        return b""


def nest(rng: Random, _node: Node, _other: Node) -> str:
    """Write lists in lists, or objects in objects, closed or not."""
    depth = 1 << rng.randrange(DEPTH_BITS_MAX + 1)
    objects = '{"a":' * depth + "0" + "}" * depth
    return rng.choice(("[" * depth + "]" * depth, "[" * depth, objects, "[0," * depth + "0"))


def take_node(_rng: Random, _node: Node, other: Node) -> str:
    """Put any node of another answer there."""
    return json.dumps(other)


def alter_keys(rng: Random, data: bytes, _other: bytes) -> bytes:
    """Drop an entry, say it twice with two values, name it otherwise, or put an unknown one beside it."""
    holder: list[Node] = [json.loads(data)]
    parent, key = _choose(rng, holder)
    if not isinstance(parent, dict):
        return rng.choice((b"null", b"[]", b"{}"))
    value = parent.pop(str(key))
    entries = [f"{json.dumps(name)}:{json.dumps(other)}" for name, other in parent.items()]
    once, again = f"{json.dumps(key)}:{json.dumps(value)}", f"{json.dumps(key)}:{rng.choice(('null', '0', '[]'))}"
    entries += rng.choice(
        ([], [once, again], [again, once], [f"{json.dumps(str(key).upper())}:{json.dumps(value)}"], [once, '"more":1'])
    )
    written = "{" + ",".join(entries) + "}"
    parent.clear()
    parent["hole"] = _HOLE
    hole = json.dumps({"hole": _HOLE})
    return json.dumps(holder[0]).replace(hole, written, 1).encode()


JSON_MUTATORS: dict[str, Mutator] = {
    "other JSON type": alter_node(change_type),
    "number": alter_node(write_number),
    "text": alter_node(write_text),
    "record": alter_node(alter_record),
    "JSON nesting": alter_node(nest),
    "any node of another": alter_node(take_node),
    "keys": alter_keys,
}
