"""The command line as a person meets it: help, wrong flags, exit codes, start time."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import click
import pytest

from chain.errors import StorageError
from node.cli import main
from node.cli.main import COMMANDS, _fail, cli, get_exit_code
from node.cli.output import format_coins, parse_coins, print_record
from node.exit_codes import CommandError, ExitCode
from node.rpc.errors import ErrorCode
from node.rpc.methods import make_registry
from node.rpc.registry import make_docs_table
from node.terminal import clean_line

NOBODY = "http://127.0.0.1:9"


def collect_commands(command: click.Command, path: tuple[str, ...]) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    children = [(name, command.get_command(context, name)) for name in command.list_commands(context)]
    return [path, *(found for name, child in children if child for found in collect_commands(child, (*path, name)))]


ALL_COMMANDS = collect_commands(cli, ())


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_every_command_has_help(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path, "--help"]) == ExitCode.OK
    output = capsys.readouterr().out
    assert f"Usage: {' '.join(('mathesis', *path))}" in output


@pytest.mark.parametrize("path", ALL_COMMANDS, ids=" ".join)
def test_a_wrong_flag_is_a_usage_error(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*path, "--no-such-flag"]) == ExitCode.USAGE
    assert "--no-such-flag" in capsys.readouterr().err


def test_the_table_of_commands_says_what_each_says_of_itself() -> None:
    context = click.Context(cli)
    for name, (_, summary) in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        assert (command.help or "").splitlines()[0] == summary


@pytest.mark.parametrize("arguments", [["status"], ["wallet", "balance", "mth1x"], ["rpc", "node_status"]])
def test_nobody_at_the_address_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*arguments, "--rpc", NOBODY])
    lines = capsys.readouterr().err.splitlines()
    assert code == (ExitCode.FAILURE if "mth1x" in arguments else ExitCode.NODE_UNREACHABLE)
    assert len(lines) == 1
    assert lines[0].startswith("mathesis: ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["devnet", "--nodes", "0"],
        ["devnet", "--nodes", "1", "--miners", "2"],
        ["devnet", "--blocks", "x"],
        ["node", "--rpc", "127.0.0.1:99999"],
        ["node", "--seed", "nowhere"],
        ["mine", "--backend", "abacus"],
        ["light", "verify"],
        ["light", "verify", "--genesis", "0x12"],
        ["light", "verify", "--genesis", "0x" + "00" * 32, "--account", "mth1x"],
        ["rpc", "no_method"],
        ["rpc", "chain_getBlock", "five"],
        ["wallet", "new", "../escape"],
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_usage_errors(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == ExitCode.USAGE
    assert capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["wallet", "new", "me", "--passphrase", "\udcff"], ["rpc", "tx_get", "hash=\udcff"]], ids=" ".join
)
def test_bytes_that_are_no_text_are_a_usage_error(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python hands them over as halves of surrogate pairs."""
    assert main([*arguments, "--dir", str(tmp_path)]) == ExitCode.USAGE
    assert "expected text" in capsys.readouterr().err


def test_keys_are_made_and_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["wallet", "new", "me", "--dir", str(tmp_path), "--development", "--json"]) == ExitCode.OK
    made = json.loads(capsys.readouterr().out)
    assert main(["wallet", "list", "--dir", str(tmp_path), "--json"]) == ExitCode.OK
    assert json.loads(capsys.readouterr().out) == {"name": "me", "address": made["address"]}
    assert main(["wallet", "new", "me", "--dir", str(tmp_path), "--development"]) == ExitCode.FAILURE
    assert "never overwritten" in capsys.readouterr().err


def test_the_page_of_methods_is_the_registry() -> None:
    page = Path(__file__).parents[2] / "docs" / "rpc.md"
    assert make_docs_table(make_registry()) in page.read_text()


def test_the_page_names_every_exit_code_and_error() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rpc.md").read_text()
    assert all(f"| {code.value} | {code.meaning} |" in page for code in (*ExitCode, *ErrorCode))


def test_the_method_table_comes_from_the_registry(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rpc", "--list"]) == ExitCode.OK
    assert "| `chain_getHeaders` | start, count | open |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CommandError(ExitCode.PORT_BUSY, "x"), ExitCode.PORT_BUSY),
        (OSError(28, "No space left on device"), ExitCode.DISK_FULL),
        (OSError(98, "Address already in use"), ExitCode.PORT_BUSY),
        (StorageError("cannot write x: No space left on device"), ExitCode.DISK_FULL),
        (StorageError("other"), ExitCode.FAILURE),
    ],
)
def test_errors_end_in_their_documented_codes(error: Exception, code: ExitCode) -> None:
    assert get_exit_code(error) is code


def test_what_strangers_named_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b]0;b\x07\nwallet  \u202e1000\x9b2J"
    print_record({"name": name}, is_json=False)
    print_record({}, False, f"{clean_line(name)}  5 coins\nnext")
    print_record({}, False, name)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 2 + 2
    assert lines[1].startswith("  "), "it passes for no field of its own"
    assert not set("\x1b\x07\x9b\u202e") & set("".join(lines))
    assert lines[2].endswith("  5 coins")
    assert _fail(1, f"refused: {name}") == 1
    assert "\x1b" not in capsys.readouterr().err
    print_record({"name": name}, is_json=True)
    assert json.loads(capsys.readouterr().out) == {"name": name}


@pytest.mark.parametrize(("text", "atoms"), [("1", 10**9), ("0.000000001", 1), ("12.50", 12_500_000_000)])
def test_coins_are_exact(text: str, atoms: int) -> None:
    assert parse_coins(text) == atoms
    assert parse_coins(format_coins(atoms)) == atoms


@pytest.mark.parametrize("text", ["", "0", "-1", "1.", ".5", "1e3", "0.0000000001", "١", "99999999999", "1,5", "nan"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_coins(text)


def run_python(code: str) -> str:
    environment = {**os.environ, "NO_COLOR": "1"}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment, timeout=60
    )
    return result.stdout


def test_help_imports_nothing_heavy_and_starts_fast() -> None:
    heavy = ("torch", "numba", "numpy", "aiohttp", "asyncio", "rich", "plyvel", "msgspec", "cryptography")
    code = f"""
import sys
from node.cli import main
main(["--help"])
print("LOADED", [name for name in {heavy!r} if name in sys.modules])
"""
    assert "LOADED []" in run_python(code)
    times = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run_python("from node.cli import main; main(['--help'])")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    # Of processor time, which others at work do not add to; an idle machine takes a third of it.
    assert min(times) < 0.9


def test_the_light_client_loads_neither_torch_nor_numba() -> None:
    code = """
import sys
import node.light, node.cli.light
print("LOADED", [name for name in ("torch", "numba", "plyvel", "aiohttp") if name in sys.modules])
"""
    assert "LOADED []" in run_python(code)


def test_memory_that_does_not_suffice_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run_out(**_: object) -> None:
        raise MemoryError("Unable to allocate 671 GiB")

    monkeypatch.setattr(cli, "main", run_out)
    assert main(["status"]) == ExitCode.FAILURE
    assert capsys.readouterr().err.startswith(
        "mathesis: out of memory: Unable to allocate 671 GiB; take a smaller model"
    )


@pytest.mark.parametrize("temperature", ["abc", "nan", "-1", ""])
def test_a_temperature_that_is_none_is_refused(temperature: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["model", "sample", __file__, "--temperature", temperature]
    assert main(arguments) == ExitCode.USAGE
    assert "temperature" in capsys.readouterr().err


def test_a_render_of_nothing_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "render", "--out", str(tmp_path)]) == ExitCode.USAGE
    assert "found no runs" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_outlives_who_reads_along(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "node.cli", "train", "digits", "--steps", "300", "--threads", "1", "--json"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [*command, "--out", str(tmp_path / "run")], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read().decode()
        assert process.wait(120) == ExitCode.OK, errors
    assert "nobody reads the output any more" in errors
    assert (tmp_path / "run" / "step-000300.safetensors").exists()
