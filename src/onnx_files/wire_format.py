"""Count what an ONNX file holds before protobuf reads it: a message of two bytes takes a hundred in memory."""

from __future__ import annotations

from insightface_mx.base.limits import MAX_ENTRIES

_GRAPH, _NODE, _ATTRIBUTE = "graph", "node", "attribute"
_PARTS = {  # the messages that are looked into: field number -> message
    "model": {7: _GRAPH},
    _GRAPH: {1: _NODE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {6: _GRAPH},
}
_VARINT, _LENGTH = 0, 2  # wire types
_FIXED = {1: 8, 5: 4}  # wire type -> bytes


def has_too_many_entries(content: bytes) -> bool:
    """Return whether a model has more than MAX_ENTRIES entries: nodes, tensors, names, attributes and so on.

    Args:
        content: The file. Where it is damaged counting stops: protobuf will find the damage.
    """
    entries, waiting = 0, [("model", 0, len(content))]
    while waiting:
        message, place, end = waiting.pop()
        while place < end:
            tag, place = _varint(content, place)
            entries += 1
            if entries > MAX_ENTRIES:
                return True
            size = _FIXED.get(tag & 7, 0)
            if tag & 7 in (_VARINT, _LENGTH):
                value, place = _varint(content, place)
                size = value if tag & 7 == _LENGTH else 0
            elif not size:
                return False
            part = _PARTS[message].get(tag >> 3)
            if part and tag & 7 == _LENGTH:
                waiting.append((part, place, min(place + size, end)))
            place += size
    return False


def _varint(content: bytes, place: int) -> tuple[int, int]:
    """Return the number of variable length at a place, and the place after it."""
    value = shift = 0
    while place < len(content):
        byte = content[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128 or shift > 63:
            break
        shift += 7
    return value, place
