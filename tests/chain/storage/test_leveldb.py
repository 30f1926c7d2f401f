"""LevelDB under threads and over time: who closes it ends no reader's process; removed rows give their room back."""

import subprocess
import sys
from pathlib import Path

import pytest

from chain.errors import StorageError
from chain.storage.leveldb import LevelDb

ROWS, THREADS, ROUNDS = 20_000, 3, 5

CLOSE_UNDER_READERS = """
import sys, threading
from pathlib import Path
from chain.errors import StorageError
from chain.storage.leveldb import LevelDb

folder, rows, threads, rounds = Path(sys.argv[1]), *map(int, sys.argv[2:])
LevelDb.write(first := LevelDb(folder), {number.to_bytes(8, "big"): bytes(100) for number in range(rows)})
first.close()
for _ in range(rounds):
    database, begun, refused = LevelDb(folder), threading.Barrier(threads + 1), []

    def read():
        number = 0
        try:
            while True:
                database.get((number % rows).to_bytes(8, "big"))
                number += 1
                if number == 100:
                    begun.wait()
        except StorageError as error:
            refused.append(error)

    readers = [threading.Thread(target=read) for _ in range(threads)]
    for reader in readers:
        reader.start()
    begun.wait()
    database.close()
    for reader in readers:
        reader.join()
    assert len(refused) == threads
"""


def test_closing_waits_for_threads_that_read(tmp_path: Path) -> None:
    arguments = [str(tmp_path / "db"), *map(str, (ROWS, THREADS, ROUNDS))]
    done = subprocess.run(
        [sys.executable, "-c", CLOSE_UNDER_READERS, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_database_is_not_read(tmp_path: Path) -> None:
    database = LevelDb(tmp_path / "db")
    database.close()
    with pytest.raises(StorageError, match="closed"):
        database.get(b"any")


def test_the_room_of_removed_rows_comes_back(tmp_path: Path) -> None:
    database = LevelDb(tmp_path)
    keys = [number.to_bytes(8, "big") for number in range(4_000)]
    database.write({key: key * 250 for key in keys})
    database.write(dict.fromkeys(keys[1:]))
    database.close()
    database = LevelDb(tmp_path)
    database.compact()
    size_bytes = sum(path.stat().st_size for path in tmp_path.iterdir())
    assert size_bytes < 500_000, "of eight million"
    assert dict(database.iter_rows(b"")) == {keys[0]: keys[0] * 250}
    database.close()
