"""What git says of commits is read as it was meant, whatever names and messages hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dawg_agent.difftext import MESSAGE_LIMIT, read_log

OLD, NEW = b"a1" * 20, b"b2" * 20


def logged(*files: bytes, parents: bytes = b"f0" * 20, message: bytes = b"change\n", seconds: bytes = b"100") -> bytes:
    head = [b"\x01" + b"c0" * 20, parents, seconds, b"Ann@Example.ORG", b"Ann", message]
    return b"\0".join([*head, *((b"\n" + files[0], *files[1:]) if files else ()), b""])


def test_a_file_has_its_lines_and_its_blobs():
    (entry,) = read_log(logged(b":100644 100644 " + OLD + b" " + NEW + b" M", b"a.py", b"3\t1\ta.py"))

    assert (entry.commit, entry.parents, entry.author) == ("c0" * 20, 1, "ann@example.org")
    file = entry.files["a.py"]
    assert (file.added, file.deleted, file.old, file.new) == (3, 1, bytes.fromhex("a1" * 20), bytes.fromhex("b2" * 20))


def test_a_renamed_file_has_both_names():
    raw = b":100644 100644 " + OLD + b" " + NEW + b" R090"
    (entry,) = read_log(logged(raw, b"a.py", b"b.py", b"3\t1\t", b"a.py", b"b.py"))

    assert entry.files.keys() == {"b.py"}
    assert entry.files["b.py"].renamed_from == "a.py"


def test_a_merge_has_the_blobs_of_its_first_parent():
    raw = b"::100644 100644 100644 " + OLD + b" " + b"c3" * 20 + b" " + NEW + b" MM"
    (entry,) = read_log(logged(b"", b"2\t2\ta.py", raw, b"a.py", parents=b"f0" * 20 + b" " + b"f1" * 20))

    assert entry.parents == 2
    assert (entry.files["a.py"].old, entry.files["a.py"].new) == (bytes.fromhex("a1" * 20), bytes.fromhex("b2" * 20))


def test_a_binary_file_has_no_lines():
    (entry,) = read_log(logged(b"-\t-\tpicture"))

    assert (entry.files["picture"].added, entry.files["picture"].deleted) == (None, None)


_names = st.binary(min_size=1, max_size=30).map(lambda raw: raw.replace(b"\0", b"?"))


@given(st.lists(_names, min_size=1, max_size=5, unique=True), _names)
def test_names_and_messages_are_never_taken_for_anything_else(names: list[bytes], message: bytes):
    output = logged(*(b"1\t0\t" + name for name in names), message=message)

    first, second = read_log(output + logged(b"5\t5\tplain"))

    assert [name.encode("utf-8", "surrogateescape") for name in first.files] == names
    assert first.message.encode("utf-8", "surrogateescape") == message
    assert list(second.files) == ["plain"]


def test_names_that_look_like_gits_own_words_are_names():
    tricky = [b"\x01" + b"d0" * 20, b":100644 100644 x", b"1\t1\tx", b"\n:y"]

    (entry,) = read_log(logged(*(b"1\t0\t" + name for name in tricky)))

    assert list(entry.files) == [name.decode() for name in tricky]


@given(st.integers(0, 250))
def test_output_that_was_cut_off_tells_what_is_complete(length: int):
    output = logged(b"1\t0\ta") + logged(b"1\t0\tb", b"2\t0\tc")

    for entry in read_log(output[:length]):
        assert set(entry.files) <= {"a", "b", "c"}


def test_times_and_messages_of_any_size_are_bounded():
    (entry,) = read_log(logged(seconds=b"99999999999999", message=b"x" * 10**6))

    assert entry.time.year == 9999
    assert len(entry.message) == MESSAGE_LIMIT
