//! What a log says of records that it does not have any more.

use memchr::memmem;

use super::VerifyError;
use super::lines::Lines;
use crate::audit::event::Event;
use crate::audit::record::Record;
use crate::audit::segment::Segment;

/// How every such record is written.
const MARK: &[u8] = br#""type":"pruned""#;

/// Records were removed, as the log itself says. Whether it was its writer who says so is told by the signature behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Statement {
    /// The record that says so.
    pub seq: u64,
    /// The last one that was removed.
    pub through: u64,
}

/// Looks for one about everything before the first file; the newest files first.
pub fn statement(segments: &[Segment]) -> Result<Option<Statement>, VerifyError> {
    let Some(first) = segments.first().map(|segment| segment.first).filter(|first| *first > 1) else {
        return Ok(None);
    };
    for segment in segments.iter().rev() {
        let mut lines = Lines::new(vec![segment.clone()]);
        while let Some(line) = lines.next()? {
            if memmem::find(&line.bytes, MARK).is_none() {
                continue;
            }
            let Ok(record) = Record::parse(&line.bytes) else { continue };
            if let Ok(Event::Pruned { through, .. }) = serde_json::from_value(record.event)
                && through + 1 >= first
            {
                return Ok(Some(Statement { seq: record.seq, through }));
            }
        }
    }
    Ok(None)
}
