"""docs/protocol.md says what the code does: its record tables, hash tags and op kinds are compared with the source.

After a change of a record, `python -m tests.support.protocol_page` writes the tables anew.
"""

import re

from chain.ledger.transition import TRANSITIONS, format_diagram
from ml.program import OpKind
from p2p.messages import KINDS
from tests.support import protocol_page

PAGE = protocol_page.PAGE.read_text(encoding="utf-8")


def test_the_record_tables_are_those_of_the_code() -> None:
    assert protocol_page.render_page(PAGE) == PAGE, "run: python -m tests.support.protocol_page"


def test_a_stale_table_is_found() -> None:
    assert protocol_page.render_page(PAGE.replace("| `amount` | u64 |", "| `amount` | u32 |")) == PAGE


def test_every_module_of_records_has_its_place() -> None:
    missing = set(protocol_page.list_record_modules()) - set(protocol_page.list_documented_modules(PAGE))
    assert not missing, f"add `<!-- records of MODULE -->` and `<!-- end -->` for {sorted(missing)}"


def test_every_hash_tag_is_listed() -> None:
    section = PAGE.split("## Hash tags")[1].split("\n## ")[0]
    listed = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))
    assert not set(protocol_page.list_hash_tags()) - listed


def test_every_op_and_message_is_named() -> None:
    assert not [kind.name for kind in OpKind if f"`{kind.name}`" not in PAGE]
    assert not [record.__name__ for record, _ in KINDS if f"**{record.__name__}**" not in PAGE]


def test_the_diagram_of_a_contribution_is_the_transition_table() -> None:
    assert f"```mermaid\n{format_diagram()}\n```" in PAGE
    assert len(set(re.findall(r"^    [A-Z]+ --> [A-Z]+: ", PAGE, re.MULTILINE))) == len(TRANSITIONS)
