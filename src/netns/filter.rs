//! Classic BPF, as far as this network needs it (linux/filter.h, linux/bpf_common.h).

use std::net::Ipv4Addr;

use super::Range;

/// One instruction: code, jt, jf, k.
pub type Instruction = (u16, u8, u8, u32);

/// Loads into A from an offset, or from X and an offset.
pub const WORD: u16 = 0x20;
pub const HALF: u16 = 0x28;
pub const BYTE: u16 = 0x30;
pub const HALF_FROM_X: u16 = 0x48;
pub const BYTE_FROM_X: u16 = 0x50;
/// X = 4 * (byte & 15): the length of an IPv4 header.
pub const HEADER_LENGTH: u16 = 0xb1;
pub const AND: u16 = 0x54;
pub const EQUAL: u16 = 0x15;
pub const ANY_OF: u16 = 0x45;
const RETURN: u16 = 0x06;

/// Nothing of the packet.
pub const NONE: Instruction = answer(0);
/// All of it.
pub const ALL: Instruction = answer(u32::MAX);

/// Where the destination of an IPv4 packet is.
pub const DESTINATION: u32 = 16;
/// Of IPv4.
pub const LOOPBACK: Range = Range { first: Ipv4Addr::new(127, 0, 0, 0), length: 8 };

/// Ends with so many bytes of the packet.
pub const fn answer(bytes: u32) -> Instruction {
    (RETURN, 0, 0, bytes)
}

pub fn load(code: u16, from: u32) -> Instruction {
    (code, 0, 0, from)
}

/// Ends with `answer` if the address at `offset` is in `range`.
pub fn within(offset: u32, range: Range, answer: Instruction) -> [Instruction; 4] {
    [load(WORD, offset), load(AND, range.mask()), (EQUAL, 0, 1, range.first.to_bits()), answer]
}

pub fn drop_if(test: u16, value: u32) -> [Instruction; 2] {
    [(test, 0, 1, value), NONE]
}

pub fn drop_unless(test: u16, value: u32) -> [Instruction; 2] {
    [(test, 1, 0, value), NONE]
}

pub fn skip_if(test: u16, value: u32, over: &[Instruction]) -> Instruction {
    (test, u8::try_from(over.len()).expect("a few instructions"), 0, value)
}

pub fn skip_unless(test: u16, value: u32, over: &[Instruction]) -> Instruction {
    (test, 0, u8::try_from(over.len()).expect("a few instructions"), value)
}
