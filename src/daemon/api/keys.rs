//! Keys by name, as bytes: `enter`, `ctrl+c`, `shift+tab`, `f5`. What a terminal of the xterm family sends for them.

/// The bytes of one key. Names know no case; `control` is `ctrl`, `option` and `meta` are `alt`. `None`: no such key.
pub fn bytes(name: &str) -> Option<Vec<u8>> {
    let lower = name.to_lowercase();
    let (held, key) = split(&lower);
    let mut modifiers = Modifiers::default();
    for word in held {
        match word {
            "ctrl" | "control" => modifiers.ctrl = true,
            "alt" | "option" | "meta" => modifiers.alt = true,
            "shift" => modifiers.shift = true,
            _ => return None,
        }
    }
    let plain = special(key, modifiers).or_else(|| character(key, name, modifiers))?;
    Some(plain)
}

#[derive(Debug, Clone, Copy, Default)]
struct Modifiers {
    ctrl: bool,
    alt: bool,
    shift: bool,
}

impl Modifiers {
    /// As in `CSI 1;5A`; 1: none.
    fn parameter(self) -> u8 {
        1 + u8::from(self.shift) + 2 * u8::from(self.alt) + 4 * u8::from(self.ctrl)
    }
}

/// The modifiers before the last `+`, and the key after it; `ctrl++` is the plus key.
fn split(name: &str) -> (Vec<&str>, &str) {
    match name.strip_suffix("++") {
        Some(held) => (held.split('+').collect(), "+"),
        None if name == "+" => (Vec::new(), "+"),
        None => {
            let mut words: Vec<&str> = name.split('+').collect();
            let key = words.pop().unwrap_or_default();
            (words, key)
        }
    }
}

fn special(key: &str, held: Modifiers) -> Option<Vec<u8>> {
    let with_alt = |byte: u8| if held.alt { vec![0x1b, byte] } else { vec![byte] };
    let letter = |letter: char| match held.parameter() {
        1 => format!("\x1b[{letter}"),
        n => format!("\x1b[1;{n}{letter}"),
    };
    let function = |letter: char| match held.parameter() {
        1 => format!("\x1bO{letter}"),
        n => format!("\x1b[1;{n}{letter}"),
    };
    let tilde = |number: u8| match held.parameter() {
        1 => format!("\x1b[{number}~"),
        n => format!("\x1b[{number};{n}~"),
    };
    let text = match key {
        "enter" | "return" => return Some(with_alt(b'\r')),
        "escape" | "esc" => return Some(with_alt(0x1b)),
        "tab" if held.shift => "\x1b[Z".to_owned(),
        "tab" => return Some(with_alt(b'\t')),
        "backspace" if held.ctrl => return Some(with_alt(0x08)),
        "backspace" => return Some(with_alt(0x7f)),
        "space" if held.ctrl => return Some(with_alt(0)),
        "space" => return Some(with_alt(b' ')),
        "up" => letter('A'),
        "down" => letter('B'),
        "right" => letter('C'),
        "left" => letter('D'),
        "home" => letter('H'),
        "end" => letter('F'),
        "insert" => tilde(2),
        "delete" => tilde(3),
        "pageup" => tilde(5),
        "pagedown" => tilde(6),
        "f1" => function('P'),
        "f2" => function('Q'),
        "f3" => function('R'),
        "f4" => function('S'),
        "f5" => tilde(15),
        "f6" => tilde(17),
        "f7" => tilde(18),
        "f8" => tilde(19),
        "f9" => tilde(20),
        "f10" => tilde(21),
        "f11" => tilde(23),
        "f12" => tilde(24),
        _ => return None,
    };
    Some(text.into_bytes())
}

/// One character; with ctrl its control code. Without modifiers it keeps its case.
fn character(key: &str, given: &str, held: Modifiers) -> Option<Vec<u8>> {
    let mut characters = key.chars();
    let (Some(one), None) = (characters.next(), characters.next()) else { return None };
    let original = given.chars().last().unwrap_or(one);
    let code = match (held.ctrl, held.shift) {
        (true, _) => vec![control(one)?],
        (false, true) => one.to_uppercase().to_string().into_bytes(),
        (false, false) => original.to_string().into_bytes(),
    };
    Some(if held.alt { [&[0x1b], code.as_slice()].concat() } else { code })
}

fn control(key: char) -> Option<u8> {
    match key {
        'a'..='z' | '[' | '\\' | ']' | '^' | '_' => Some(key as u8 & 0x1f),
        '@' | '2' => Some(0),
        '?' | '8' => Some(0x7f),
        '/' | '7' => Some(0x1f),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_bytes_that_xterm_sends() {
        for (name, expected) in [
            ("enter", "\r"),
            ("Tab", "\t"),
            ("shift+tab", "\x1b[Z"),
            ("escape", "\x1b"),
            ("ctrl+c", "\x03"),
            ("Control+C", "\x03"),
            ("alt+x", "\x1bx"),
            ("option+enter", "\x1b\r"),
            ("up", "\x1b[A"),
            ("ctrl+left", "\x1b[1;5D"),
            ("pagedown", "\x1b[6~"),
            ("f1", "\x1bOP"),
            ("shift+f5", "\x1b[15;2~"),
            ("space", " "),
            ("ctrl+space", "\0"),
            ("a", "a"),
            ("A", "A"),
            ("shift+a", "A"),
            ("+", "+"),
            ("alt++", "\x1b+"),
            ("é", "é"),
        ] {
            assert_eq!(bytes(name).as_deref(), Some(expected.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_is_no_key_is_none() {
        for name in ["", "ctrl", "ctrl+", "hyper+x", "f13", "enterr", "ctrl+é"] {
            assert_eq!(bytes(name), None, "{name}");
        }
    }
}
