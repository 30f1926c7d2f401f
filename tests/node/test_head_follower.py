"""Following the head: a look that is long leaves off when there is something else to do, and when the node stops."""

import asyncio

from node.head_follower import HeadFollower
from node.importer import HeadChange

MOVE = HeadChange((), ())
PIECES = 5


class Looks:
    """A look at several pieces, each of which waits until it is let go on."""

    def __init__(self) -> None:
        self.follower = HeadFollower(self.look)
        self.done, self.begun, self.go_on = list[int](), asyncio.Event(), asyncio.Event()

    async def look(self) -> None:
        for piece in range(PIECES):
            self.begun.set()
            await self.go_on.wait()
            self.done.append(piece)
            if self.follower.has_news:
                return


async def test_a_move_of_the_head_has_all_looked_at_anew() -> None:
    looks = Looks()
    looks.follower.on_head(MOVE)
    await looks.begun.wait()
    looks.follower.on_head(MOVE)
    looks.go_on.set()
    while len(looks.done) < 1 + PIECES:
        await asyncio.sleep(0)
    await looks.follower.stop()
    assert looks.done == [0, *range(PIECES)]


async def test_stopping_waits_for_the_piece_under_way_alone() -> None:
    looks = Looks()
    looks.follower.on_head(MOVE)
    await looks.begun.wait()
    stopping = asyncio.create_task(looks.follower.stop())
    await asyncio.sleep(0)
    looks.go_on.set()
    await stopping
    looks.follower.on_head(MOVE)
    await asyncio.sleep(0)
    assert looks.done == [0]
