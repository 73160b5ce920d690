"""Runs inside a slot, as bare as can be: spawns programs one after the other, and says how long that takes in ms.

python3 -c SPAWNS COUNT       a line each: until a program's first instruction, until another one's end
python3 -c SPAWNS COUNT rate  one line: when the first was spawned, when the last had ended
"""

import os
import sys
import time

STAMP, NOTHING = "/usr/local/bin/stamp", "/bin/true"


def until_begun() -> float:
    """Spawn the program that says when it began."""
    reading, writing = os.pipe()
    before = time.time_ns()
    os.waitpid(os.posix_spawn(STAMP, [STAMP], {}, file_actions=[(os.POSIX_SPAWN_DUP2, writing, 1)]), 0)
    os.close(writing)
    begun = int(os.read(reading, 100))
    os.close(reading)
    return (begun - before) / 1e6


def until_ended() -> float:
    """Spawn the program that does nothing."""
    before = time.time_ns()
    os.waitpid(os.posix_spawn(NOTHING, [NOTHING], {}), 0)
    return (time.time_ns() - before) / 1e6


count = int(sys.argv[1])
if sys.argv[2:] == ["rate"]:
    first = time.time_ns() / 1e6
    for _ in range(count):
        until_ended()
    print(first, time.time_ns() / 1e6)
else:
    for _ in range(count):
        print(until_begun(), until_ended())
