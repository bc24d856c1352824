//! Server-sent events (the HTML standard, 9.2.6): lines in, events out.

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// `id:`, the last that was given.
    pub id: Option<String>,
    /// `event:`
    pub event: String,
    /// `data:`, its lines joined.
    pub data: String,
}

/// Longest line and longest event: a service that sends more is none of ours.
const LONGEST: usize = 16 * 1024 * 1024;

/// Takes bytes as they come, however they are cut.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was CR: an LF after it belongs to it.
    after_cr: bool,
    message: Message,
    has_data: bool,
}

/// An event that has no end.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {LONGEST} bytes")]
pub struct TooLong;

impl Parser {
    /// The events that these bytes complete.
    pub fn take(&mut self, bytes: &[u8]) -> Result<Vec<Message>, TooLong> {
        let mut messages = Vec::new();
        for &byte in bytes {
            let follows_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if follows_cr => {}
                b'\n' | b'\r' => messages.extend(self.end_line()),
                _ if self.line.len() + self.message.data.len() >= LONGEST => return Err(TooLong),
                _ => self.line.push(byte),
            }
        }
        Ok(messages)
    }

    fn end_line(&mut self) -> Option<Message> {
        let line = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&line);
        let line = line.strip_prefix('\u{feff}').unwrap_or(&line);
        if line.is_empty() {
            return self.end_message();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.message.data.push('\n');
                }
                self.message.data.push_str(value);
            }
            "event" => self.message.event = value.to_owned(),
            "id" if !value.contains('\0') => self.message.id = Some(value.to_owned()),
            // A comment (it keeps the connection alive), `retry`, or what a later version says.
            _ => {}
        }
        None
    }

    fn end_message(&mut self) -> Option<Message> {
        let id = self.message.id.clone();
        let next = Message { id, ..Message::default() };
        let message = std::mem::replace(&mut self.message, next);
        std::mem::take(&mut self.has_data).then_some(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &[u8] = b": hello\n\nid: 7\nevent: agentState\ndata: {\"a\":1}\n\ndata: x\r\ndata:y\r\n\r\nevent: no data\n\n";

    #[test]
    fn events_are_the_same_however_the_bytes_are_cut() {
        let whole = Parser::default().take(STREAM).expect("short");
        assert_eq!(whole.len(), 2);
        assert_eq!((whole[0].id.as_deref(), whole[0].event.as_str()), (Some("7"), "agentState"));
        assert_eq!((whole[1].id.as_deref(), whole[1].data.as_str()), (Some("7"), "x\ny"));
        for length in 1..STREAM.len() {
            let mut parser = Parser::default();
            let cut: Vec<Message> =
                STREAM.chunks(length).flat_map(|part| parser.take(part).expect("short")).collect();
            assert_eq!(cut, whole, "cut into pieces of {length}");
        }
    }

    #[test]
    fn an_event_without_end_is_refused() {
        let mut parser = Parser::default();
        let piece = vec![b'x'; 1 << 20];
        let refused = (0..32).any(|_| parser.take(&piece) == Err(TooLong));
        assert!(refused);
    }
}
