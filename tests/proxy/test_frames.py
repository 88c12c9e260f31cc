"""WebSocket frames are counted wherever the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.frames import FrameCounter


def frame(opcode: int, size: int, *, fin: bool = True, masked: bool = False) -> bytes:
    head = bytes([(0x80 if fin else 0) | opcode])
    mask = 0x80 if masked else 0
    if size < 126:
        head += bytes([mask | size])
    elif size < 65536:
        head += bytes([mask | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([mask | 127]) + size.to_bytes(8, "big")
    return head + (b"abcd" if masked else b"") + b"x" * size


FRAMES = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 2, 8, 9, 10]),
        st.sampled_from([0, 1, 125, 126, 127, 300, 65535, 65536]),
        st.booleans(),
        st.booleans(),
    ),
    max_size=8,
)


@given(FRAMES, st.lists(st.integers(0, 10**6), max_size=20))
def test_messages_are_their_final_frames(
    frames: list[tuple[int, int, bool, bool]], cuts: list[int]
) -> None:
    data = b"".join(frame(o, n, fin=f, masked=m) for o, n, f, m in frames)
    counter = FrameCounter()
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for a, b in pairwise(places):
        counter.feed(data[a:b])
    assert counter.is_between_frames
    assert counter.take() == sum(f and o < 8 for o, _, f, _ in frames)
    assert counter.take() == 0


def test_in_the_middle_of_a_frame_nothing_may_be_put_in() -> None:
    counter = FrameCounter()
    data = frame(1, 10)
    for cut in range(1, len(data)):
        counter = FrameCounter()
        counter.feed(data[:cut])
        assert not counter.is_between_frames
