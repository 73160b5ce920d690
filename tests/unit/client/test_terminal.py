"""Text from the cluster cannot take over the terminal."""

from __future__ import annotations

import pytest

from dawg_orchestrator.client.terminal import LogForTerminal, lines, one_line


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
        ("a\rb", "a\\x0db"),
        ("a\nb\tc", "a\\x0ab\\x09c"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202etxt", "abc\\u202etxt"),
        ("zero\u200bwidth", "zero\\u200bwidth"),
        ("naïve 試験 🙂", "naïve 試験 🙂"),
    ],
)
def test_control_characters_in_names_become_visible(hostile: str, shown: str) -> None:
    assert one_line(hostile) == shown


def test_messages_keep_their_line_breaks_and_nothing_else() -> None:
    assert lines("first\nsecond\x1b[31m") == "first\nsecond\\x1b[31m"


def test_a_log_keeps_its_colours_but_cannot_move_the_cursor_or_talk_to_the_terminal() -> None:
    shown = LogForTerminal().feed(b"\x1b[1;32mok\x1b[0m \x1b[1A\x1b]52;c;aGk=\x07\r\n", last=True)

    assert shown == "\x1b[1;32mok\x1b[0m \\x1b[1A\\x1b]52;c;aGk=\\x07\r\n"


def test_a_log_cut_anywhere_reads_as_the_whole() -> None:
    log = "\x1b[38;5;196mrot\x1b[0m é 試\r\n\x1b[2Kend\x1b".encode()
    whole = LogForTerminal().feed(log, last=True)

    for size in (1, 2, 3, 5):
        shown = LogForTerminal()
        pieces = [shown.feed(log[at : at + size]) for at in range(0, len(log), size)]
        assert "".join(pieces) + shown.feed(b"", last=True) == whole


def test_a_colour_that_never_ends_is_not_kept_forever() -> None:
    shown = LogForTerminal()

    assert "1" * 100 in shown.feed(b"\x1b[" + b"1" * 100)
