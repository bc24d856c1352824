//! Classic BPF, written from the last instruction to the first: every jump's target is then already there, so its
//! distance is known and a jump that is too long for eight bits can be bridged on the spot.

use std::collections::HashMap;

/// One instruction: code, jump if true, jump if false, operand (`struct sock_filter`).
pub type Instruction = (u16, u8, u8, u32);

/// Load a 32-bit word of `struct seccomp_data`.
pub const LOAD: u16 = 0x20;
/// Keep some bits of the accumulator.
pub const AND: u16 = 0x54;
/// Jump, however far.
pub const JUMP: u16 = 0x05;
/// Jump if equal.
pub const EQUAL: u16 = 0x15;
/// Jump if greater or equal, unsigned.
pub const AT_LEAST: u16 = 0x35;
/// Jump if any of these bits is set.
pub const ANY_OF: u16 = 0x45;
/// End with this verdict.
pub const RETURN: u16 = 0x06;

/// An instruction that has been written, counted from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label(usize);

/// A program in the making.
#[derive(Debug, Default)]
pub struct Assembler {
    reversed: Vec<Instruction>,
    returns: HashMap<u32, Label>,
}

impl Assembler {
    /// Ends with `verdict`; shares an earlier such end if a conditional jump can reach it.
    pub fn end(&mut self, verdict: u32) -> Label {
        // Far enough from 255 for the few instructions that come between here and the jump itself.
        const NEAR: usize = 200;
        match self.returns.get(&verdict) {
            Some(&label) if self.reversed.len() - label.0 < NEAR => label,
            _ => {
                let label = self.push((RETURN, 0, 0, verdict));
                self.returns.insert(verdict, label);
                label
            }
        }
    }

    /// Compares the accumulator and goes on at one of two places.
    pub fn branch(&mut self, test: u16, operand: u32, then: Label, otherwise: Label) -> Label {
        let then = self.within_reach(then);
        let otherwise = self.within_reach(otherwise);
        let (jt, jf) = (self.distance(then), self.distance(otherwise));
        let short =
            |distance: usize| u8::try_from(distance).expect("a bridge is at most one instruction away");
        self.push((test, short(jt), short(jf), operand))
    }

    /// Changes the accumulator and goes on at `next`.
    pub fn then(&mut self, code: u16, operand: u32, next: Label) -> Label {
        if self.distance(next) > 0 {
            self.jump(next);
        }
        self.push((code, 0, 0, operand))
    }

    /// The program, first instruction first.
    pub fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    /// `target`, or a jump to it that a conditional jump can reach even if one more bridge follows.
    fn within_reach(&mut self, target: Label) -> Label {
        if self.distance(target) < usize::from(u8::MAX) { target } else { self.jump(target) }
    }

    fn jump(&mut self, target: Label) -> Label {
        let distance = u32::try_from(self.distance(target)).expect("a program has at most 4096 instructions");
        self.push((JUMP, 0, 0, distance))
    }

    /// How many instructions the next one would have to skip to get to `target`.
    fn distance(&self, target: Label) -> usize {
        self.reversed.len() - 1 - target.0
    }

    fn push(&mut self, instruction: Instruction) -> Label {
        self.reversed.push(instruction);
        Label(self.reversed.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_too_long_for_eight_bits_is_bridged() {
        for padding in [0, 1, 200, 253, 254, 255, 256, 257, 1000] {
            let mut assembler = Assembler::default();
            let one = assembler.push((RETURN, 0, 0, 1));
            let two = assembler.push((RETURN, 0, 0, 2));
            for _ in 0..padding {
                assembler.push((RETURN, 0, 0, 3));
            }
            let branch = assembler.branch(EQUAL, 7, one, two);
            assembler.then(LOAD, 0, branch);

            let program = assembler.finish();

            assert_eq!(follow(&program, 7), 1, "with {padding} instructions between");
            assert_eq!(follow(&program, 8), 2, "with {padding} instructions between");
        }
    }

    /// Runs a program whose only load is the number 0.
    fn follow(program: &[Instruction], number: u32) -> u32 {
        let mut at = 0;
        loop {
            let (code, jt, jf, operand) = program[at];
            at += 1;
            match code {
                RETURN => return operand,
                JUMP => at += operand as usize,
                EQUAL => at += usize::from(if number == operand { jt } else { jf }),
                _ => {}
            }
        }
    }
}
