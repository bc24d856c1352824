//! Runs a filter as the kernel would, so that tests can ask what it says to any call.

use super::assembler::{AND, ANY_OF, AT_LEAST, EQUAL, Instruction, JUMP, LOAD, RETURN};

/// `BPF_MAXINSNS`
const MOST_INSTRUCTIONS: usize = 4096;
/// `sizeof(struct seccomp_data)`
const DATA: u32 = 64;

/// One call as the kernel shows it to a filter (`struct seccomp_data`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Call {
    /// Number.
    pub number: u32,
    /// `AUDIT_ARCH_*`
    pub architecture: u32,
    /// Where it was made.
    pub instruction_pointer: u64,
    /// All six.
    pub arguments: [u64; 6],
}

/// What a filter said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// `SECCOMP_RET_*`
    pub verdict: u32,
    /// How many instructions it took.
    pub executed: usize,
    /// Whether only number and architecture were looked at: the kernel then remembers the verdict.
    pub cacheable: bool,
}

/// Checks what the kernel checks before it accepts a filter (bpf_check_classic, seccomp_check_filter), and that only
/// instructions are used that its constant-verdict emulation understands.
pub fn validate(program: &[Instruction]) -> Result<(), String> {
    if program.is_empty() || program.len() > MOST_INSTRUCTIONS {
        return Err(format!("{} instructions", program.len()));
    }
    for (at, &(code, jt, jf, operand)) in program.iter().enumerate() {
        let furthest = match code {
            LOAD if operand % 4 == 0 && operand < DATA => 0,
            AND | RETURN => 0,
            JUMP => operand as usize,
            EQUAL | AT_LEAST | ANY_OF => usize::from(jt.max(jf)),
            _ => return Err(format!("instruction {at}: code {code:#x}, operand {operand:#x}")),
        };
        let falls_off_the_end = code != RETURN && at + 1 + furthest >= program.len();
        if falls_off_the_end {
            return Err(format!("instruction {at} leaves the program"));
        }
    }
    Ok(())
}

/// Runs a validated `program` on `call`.
pub fn run(program: &[Instruction], call: &Call) -> Outcome {
    let (mut accumulator, mut at, mut executed, mut cacheable) = (0, 0, 0, true);
    loop {
        let (code, jt, jf, operand) = program[at];
        at += 1;
        executed += 1;
        let mut choose = |holds: bool| at += usize::from(if holds { jt } else { jf });
        match code {
            LOAD => {
                cacheable &= operand < 8;
                accumulator = word(call, operand);
            }
            AND => accumulator &= operand,
            JUMP => at += operand as usize,
            EQUAL => choose(accumulator == operand),
            AT_LEAST => choose(accumulator >= operand),
            ANY_OF => choose(accumulator & operand != 0),
            RETURN => return Outcome { verdict: operand, executed, cacheable },
            _ => unreachable!("validate() refuses code {code:#x}"),
        }
    }
}

/// The 32-bit word at `offset` of `struct seccomp_data` on a little-endian machine.
fn word(call: &Call, offset: u32) -> u32 {
    let half = |value: u64, high: bool| (value >> if high { 32 } else { 0 }) as u32;
    match offset {
        0 => call.number,
        4 => call.architecture,
        8 | 12 => half(call.instruction_pointer, offset == 12),
        _ => half(call.arguments[(offset as usize - 16) / 8], offset % 8 == 4),
    }
}
