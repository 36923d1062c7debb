# SPDX-License-Identifier: Apache-2.0
"""Two tiny guests, each one sector of machine code, so that no image is needed.

``talkative()`` sleeps between timer ticks and writes a numbered line to the
first serial port twice a second.  ``busy()`` changes one word in each of 12,288
pages (8 MiB to 56 MiB) without end, so that a live migration whose bandwidth is
limited never converges; it writes a line every few seconds.
"""

import dataclasses

_ORIGIN = 0x7C00
_COM1 = 0x3F8
#: The memory that ``busy()`` changes, from the first byte to the one after the last.
BUSY_FROM, BUSY_TO = 8 << 20, 56 << 20
#: The BIOS's timer interrupts 18.2 times a second.
_TICKS_A_LINE = 9


@dataclasses.dataclass
class _Code:
    """Machine code under construction, with labels for short jumps."""

    data: bytearray = dataclasses.field(default_factory=bytearray)
    labels: dict[str, int] = dataclasses.field(default_factory=dict)
    jumps: list[tuple[int, str]] = dataclasses.field(default_factory=list)

    def put(self, code: str, operand: int | None = None, size: int = 0) -> None:
        """Append bytes written in hexadecimal, and a little-endian operand."""
        self.data += bytes.fromhex(code)
        if operand is not None:
            self.data += operand.to_bytes(size, "little")

    def label(self, name: str) -> None:
        self.labels[name] = len(self.data)

    def jump(self, opcode: str, label: str) -> None:
        """A jump (or loop) with an 8-bit distance."""
        self.put(opcode)
        self.jumps.append((len(self.data), label))
        self.data.append(0)

    def sector(self) -> bytes:
        for at, label in self.jumps:
            self.data[at:at + 1] = (self.labels[label] - at - 1).to_bytes(
                1, "little", signed=True)
        if len(self.data) > 510:
            raise ValueError("the code does not fit into one sector")
        return bytes(self.data).ljust(510, b"\0") + b"\x55\xaa"


def _print_line(code: _Code, wide: bool) -> None:
    """Write "tick " and the counter in ESI (SI) as hexadecimal digits, then a new line.

    The instructions are the same in 16 and 32 bits but for the size of operands.
    """
    code.put("66ba" if wide else "ba", _COM1, 2)  # mov dx, COM1
    for character in b"tick ":
        code.put("b0", character, 1)              # mov al, character
        code.put("ee")                            # out dx, al
    code.put("b9", 8 if wide else 4, 4 if wide else 2)  # mov (e)cx, number of digits
    code.label("digit")
    code.put("c1c604")                            # rol (e)si, 4
    code.put("89f0")                              # mov (e)ax, (e)si
    code.put("240f")                              # and al, 0x0f
    code.put("0430")                              # add al, '0'
    code.put("3c39")                              # cmp al, '9'
    code.jump("76", "plain")                      # jbe plain
    code.put("0427")                              # add al, 'a' - '9' - 1
    code.label("plain")
    code.put("ee")                                # out dx, al
    code.jump("e2", "digit")                      # loop digit
    code.put("b00aee")                            # mov al, new line; out dx, al


def talkative() -> bytes:
    """The sector of a guest that is idle and writes to its console."""
    code = _Code()
    code.put("fa31c08ed88ed0bc007cfb")            # cli; ds = ss = 0; sp = 0x7c00; sti
    code.put("31f6")                              # xor si, si
    code.label("again")
    code.put("b9", _TICKS_A_LINE, 2)              # mov cx, ticks
    code.label("sleep")
    code.put("f4")                                # hlt
    code.jump("e2", "sleep")                      # loop sleep
    code.put("46")                                # inc si
    _print_line(code, wide=False)
    code.jump("eb", "again")                      # jmp again
    return code.sector()


def busy() -> bytes:
    """The sector of a guest that never stops changing its memory."""
    code = _Code()
    code.put("fa31c08ed8")                        # cli; ds = 0
    code.put("0f0116")                            # lgdt [table's address]
    pointer_at = len(code.data)
    code.put("0000")
    code.put("e4920c02e692")                      # open address line 20 through port 0x92
    code.put("0f20c00c010f22c0")                  # cr0 |= 1: protected mode
    code.put("ea")                                # jmp 8:wide
    code.put("", _ORIGIN + len(code.data) + 4, 2)
    code.put("0800")
    code.put("66b810008ed88ec0")                  # ds = es = flat data segment
    code.put("31f631db31ed")                      # esi = ebx = ebp = 0
    code.label("pass")
    code.put("bf", BUSY_FROM, 4)                  # mov edi, 8 MiB
    code.label("page")
    code.put("43")                                # inc ebx
    code.put("891f")                              # mov [edi], ebx
    code.put("81c7", 4096, 4)                     # add edi, 4096
    code.put("81ff", BUSY_TO, 4)                  # cmp edi, 56 MiB
    code.jump("72", "page")                       # jb page
    code.put("0f31")                              # rdtsc
    code.put("39ea")                              # cmp edx, ebp
    code.jump("74", "pass")                       # je pass
    code.put("89d5")                              # mov ebp, edx
    code.put("46")                                # inc esi
    _print_line(code, wide=True)
    code.jump("eb", "pass")                       # jmp pass
    while len(code.data) % 8:
        code.put("90")
    table = _ORIGIN + len(code.data)
    code.put("0000000000000000")                  # the null descriptor
    code.put("ffff0000009acf00")                  # code: 0 to 4 GiB
    code.put("ffff00000092cf00")                  # data: 0 to 4 GiB
    code.data[pointer_at:pointer_at + 2] = (_ORIGIN + len(code.data)).to_bytes(2, "little")
    code.put("1700")
    code.put("", table, 4)
    return code.sector()
