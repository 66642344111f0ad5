"""Every key that is a character acts, also when many come at once; nothing else that a terminal sends is a key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtdenoise.cli.keys import ALONE_S, ESCAPE, STRING_S, Keys

SEQUENCES = {
    "arrow": b"\x1b[A",
    "arrow of an application": b"\x1bOB",
    "arrow with Control": b"\x1b[1;5C",
    "Del": b"\x1b[3~",
    "F1": b"\x1bOP",
    "F1 of Linux's console": b"\x1b[[A",
    "F5": b"\x1b[15~",
    "F5 with Shift": b"\x1b[15;2~",
    "focus gained": b"\x1b[I",
    "focus lost": b"\x1b[O",
    "where the cursor is": b"\x1b[24;80R",
    "what the terminal is": b"\x1b[?62;22c",
    "a mouse": b"\x1b[<0;10;20M",
    "an old mouse": b"\x1b[M !q",
    "begin of a paste": b"\x1b[200~",
    "end of a paste": b"\x1b[201~",
    "the background's colour": b"\x1b]11;rgb:0000/0000/0000\x1b\\",
    "the title": b"\x1b]2;quit - bb\x07",
    "a terminal's version": b"\x1bP>|term(1)\x1b\\",
    "Alt and a letter": b"\x1bq",
    "arrow with Alt": b"\x1b\x1b[A",
}
CHARACTERS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=0, max_size=5)


def all_keys(pieces: list[bytes]) -> str:
    """What comes of these, one after the other in no time, and then nothing for long."""
    keys = Keys()
    found = [key for piece in pieces for key in keys.feed(piece, 0.0)]
    return "".join(found + keys.feed(b"", STRING_S + 1))


@given(st.lists(st.tuples(CHARACTERS, st.sampled_from(sorted(SEQUENCES)))), st.data())
def test_sequences_are_swallowed_and_characters_kept_however_the_bytes_are_cut(parts, data):
    sent = b"".join(text.encode() + SEQUENCES[name] for text, name in parts)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=8)))
    pieces = [sent[a:b] for a, b in zip([0, *cuts], [*cuts, len(sent)], strict=True) if a < b]
    assert all_keys(pieces) == "".join(text for text, _ in parts)


@pytest.mark.parametrize("sequence", SEQUENCES.values(), ids=SEQUENCES)
def test_none_ends_the_session(sequence):
    assert all_keys([sequence]) == ""


@pytest.mark.parametrize("typed", ["---", "bb", "+m-q"])
def test_all_keys_act_that_come_at_once(typed):
    assert all_keys([typed.encode()]) == typed


@given(st.binary(min_size=1, max_size=6).map(lambda b: bytes(x | 0x80 for x in b)))
def test_other_bytes_are_no_keys_and_hold_nothing_up(odd):
    assert all_keys([odd, b"b"]) == "b"


def test_escape_is_a_key_once_nothing_follows():
    keys = Keys()
    assert keys.feed(b"\x1b", 1.0) == []
    assert keys.feed(b"", 1.0 + ALONE_S / 2) == []
    assert keys.feed(b"", 1.0 + ALONE_S) == [ESCAPE]
    assert keys.feed(b"", 9.0) == []


@given(st.binary(max_size=40))
def test_whatever_comes_a_character_after_a_pause_acts(rubbish):
    keys = Keys()
    keys.feed(rubbish, 0.0)
    keys.feed(b"", STRING_S + 1)
    assert keys.feed(b"b", STRING_S + 2) == ["b"]
