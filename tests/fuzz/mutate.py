# SPDX-License-Identifier: Apache-2.0
"""Mutations that keep JSON JSON: bytes that are turned over at random hardly ever stay so."""

import json
import random
import typing as ty

Value = ty.Any

_ODD: tuple[Value, ...] = (None, True, False, 0, -1, 1, 1 << 31, 1 << 50, (1 << 50) + 1, 1 << 63,
                           1 << 64, 0.5, 1e308, "", "x", "..", ".", "/", "a/../b", "\0", "\ud800",
                           "\n", "é", "a" * 300, [], {}, [[]], {"": ""})


class JsonMutator:
    """Changes one value, key or list somewhere in a JSON text.

    :param words: strings worth trying.
    """

    def __init__(self, words: ty.Iterable[bytes]) -> None:
        self._values = (*_ODD, *(word.decode("utf-8", "replace") for word in words))

    def __call__(self, data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        try:
            made = self._json_changed(data, chance)
        except (ValueError, RecursionError):  # no JSON, or deeper than Python goes
            made = _turned_over(data, chance)[:max_size]
        return made if len(made) <= max_size else data

    def _json_changed(self, data: bytes, chance: random.Random) -> bytes:
        """:raises ValueError, RecursionError: it cannot be read, or not as a whole."""
        value = json.loads(data)
        if chance.random() < 0.05:
            return _turned_over(data, chance)
        for _ in range(chance.choice((1, 1, 1, 2, 4))):
            value = self._changed(value, chance)
        return json.dumps(value).encode()

    def _changed(self, value: Value, chance: random.Random) -> Value:
        """Go down some way, and change what is there."""
        if isinstance(value, (dict, list)) and value and chance.random() < 0.85:
            place = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
            return self._changed_inside(value, place, chance)
        return self._other(value, chance)

    def _changed_inside(self, value: Value, place: ty.Any, chance: random.Random) -> Value:
        kind = chance.random()
        if kind < 0.08:
            del value[place]
        elif kind < 0.16 and isinstance(value, list):
            value.insert(chance.randrange(len(value) + 1), _copied(value[place]))
        elif kind < 0.12:
            value[str(chance.choice(self._values))] = _copied(value[place])
        elif kind < 0.2:
            other = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
            value[place], value[other] = value[other], value[place]
        else:
            value[place] = self._changed(value[place], chance)
        return value

    def _other(self, value: Value, chance: random.Random) -> Value:
        kind = chance.random()
        if isinstance(value, str) and kind < 0.5:
            raw = _turned_over(value.encode("utf-8", "surrogatepass"), chance)
            return raw.decode("utf-8", "replace")
        if type(value) is int and kind < 0.5:
            return value + chance.choice((-1, 1, 7, -value, value, 1 << 20))
        if kind > 0.97:
            return [value] * chance.randrange(3)
        return _copied(chance.choice(self._values))  # it may be changed in its turn


def _copied(value: Value) -> Value:
    """Also of hundreds of lists in each other, where ``copy.deepcopy`` has no stack left."""
    return json.loads(json.dumps(value))


def _turned_over(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, left out, put in or doubled."""
    made = bytearray(data or b"x")
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = chance.randrange(len(made) + 1)
        kind = chance.randrange(5)
        end = min(len(made), place + chance.choice((1, 1, 2, 4, 16)))
        if kind == 0:
            made[place:end] = chance.randbytes(end - place)
        elif kind == 1:
            del made[place:end]
        elif kind == 2:
            made[place:place] = chance.randbytes(chance.choice((1, 1, 2, 8)))
        elif kind == 3:
            made[place:place] = made[place:end]
        elif place < len(made):
            made[place] ^= 1 << chance.randrange(8)
    return bytes(made)
