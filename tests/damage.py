"""Damage for property tests: a file's bytes with one changed, or cut off."""

from hypothesis import strategies as st


def damaged(content: bytes, data: st.DataObject) -> bytes:
    """`content` cut off before a drawn place, or with the byte there changed."""
    changed = bytearray(content)
    place = data.draw(st.integers(0, len(changed) - 1))
    if data.draw(st.booleans()):
        return bytes(changed[:place])
    changed[place] ^= data.draw(st.integers(1, 255))
    return bytes(changed)
