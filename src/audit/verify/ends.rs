//! The end of a log: what the head, and whoever kept a checkpoint elsewhere, knows of.

use std::path::PathBuf;

use super::finding::{Finding, Kind};
use super::lines::Lines;
use super::walk::Walk;
use crate::audit::seal::Seal;

/// The last record that a head which counts speaks of.
pub fn promised(walk: &Walk<'_>) -> u64 {
    let seals = walk.head.iter().flat_map(|head| head.seals.iter().flatten());
    // Before any record was read, no key is known: whatever is promised is taken for it.
    let counts = |seal: &&Seal| walk.keys.is_empty() || is_signed(walk, seal);
    seals.filter(counts).map(|seal| seal.seq).max().unwrap_or(0)
}

fn is_signed(walk: &Walk<'_>, seal: &Seal) -> bool {
    walk.keys.iter().any(|key| seal.is_signed_by(key))
}

/// Compares the last record with what is known of it.
pub fn end(walk: &mut Walk<'_>, lines: &Lines) -> Option<Finding> {
    let finding = head(walk, lines)
        .or_else(|| pruned(walk, lines))
        .or_else(|| against(walk, lines))
        .or_else(|| known_key(walk, lines));
    let vouched = promised(walk).max(walk.checkpoint);
    let last = walk.report.last.unwrap_or(0);
    walk.report.unsealed = match walk.report.first {
        Some(first) => last - vouched.min(last).max(first - 1),
        None => 0,
    };
    finding
}

fn head(walk: &mut Walk<'_>, lines: &Lines) -> Option<Finding> {
    let head = walk.head.as_ref()?;
    let path = head.path.clone();
    let last = walk.seq;
    let Some(seals) = head.seals.clone() else {
        let detail = "the head is missing: nobody can tell how far the log reached";
        return Some(found(Kind::Truncated, last + 1, None, path, detail));
    };
    let reach = promised(walk);
    if reach > last {
        let missing = match reach - last {
            1 => format!("record {reach} is missing at the end"),
            _ => format!("records {} to {reach} are missing at the end", last + 1),
        };
        let through = (reach > last + 1).then_some(reach);
        return Some(found(Kind::Truncated, last + 1, through, lines.last_path(), &missing));
    }
    walk.report.last?;
    let (signed, unsigned): (Vec<_>, Vec<_>) = seals.into_iter().partition(|seal| is_signed(walk, seal));
    // Power may be cut while a slot is renewed, which may leave half of it: then the other one is behind the log.
    let is_torn = !signed.is_empty() && unsigned.len() == 1 && reach < last;
    if signed.is_empty() || !(unsigned.is_empty() || is_torn) {
        let detail = "the head is not signed by the log's key";
        return Some(found(Kind::ForgedCheckpoint, last, None, path, detail));
    }
    walk.report.head = Some(reach);
    let signers: Vec<_> =
        walk.keys.iter().filter(|key| signed.iter().any(|seal| seal.is_signed_by(key))).copied().collect();
    signers.iter().for_each(|key| walk.signed_by(key));
    if let Some(other) = signed.iter().find(|seal| differs(walk, seal)) {
        let first = walk.checkpoint.max(walk.report.first.unwrap_or(1)).min(other.seq);
        let detail =
            format!("the head speaks of another record {}: one of {first} to it was changed", other.seq);
        return Some(found(Kind::Altered, first, Some(other.seq).filter(|seq| *seq > first), path, &detail));
    }
    if reach < walk.checkpoint_before {
        let detail = format!("the head is an old one: it speaks of record {reach}, and the log has {last}");
        return Some(found(Kind::RolledBack, reach + 1, None, path, &detail));
    }
    None
}

/// Whoever removed records from the beginning has said so, and signed that.
fn pruned(walk: &mut Walk<'_>, lines: &Lines) -> Option<Finding> {
    let first = walk.report.first.filter(|first| *first > 1)?;
    let statement = walk.pruned?;
    if statement.seq <= promised(walk).max(walk.checkpoint) {
        walk.report.pruned = Some(first - 1);
        return None;
    }
    let detail = format!("record {} says that they were removed, and nobody has signed that", statement.seq);
    Some(found(Kind::Deleted, 1, Some(first - 1), lines.path(0), &detail))
}

fn against(walk: &Walk<'_>, lines: &Lines) -> Option<Finding> {
    let seal = walk.known.against.as_ref()?;
    let (last, file) = (walk.seq, lines.last_path());
    let finding = |kind, seq, detail: &str| Some(found(kind, seq, None, file.clone(), detail));
    if walk.log.as_ref().is_some_and(|log| *log != seal.log) {
        return finding(Kind::RolledBack, 1, "this is another log than the one that the checkpoint is of");
    }
    if !walk.keys.is_empty() && !is_signed(walk, seal) {
        let detail = format!("the key {} that signed the checkpoint is none of this log's", seal.key_id);
        return finding(Kind::ForgedCheckpoint, seal.seq, &detail);
    }
    if seal.seq > last {
        let detail =
            format!("it ends with record {last}, and had {} when the checkpoint was signed", seal.seq);
        return finding(Kind::RolledBack, last + 1, &detail);
    }
    if differs(walk, seal) {
        let detail = format!("record {} is another one than the checkpoint is of", seal.seq);
        return finding(Kind::Altered, seal.seq, &detail);
    }
    None
}

fn known_key(walk: &Walk<'_>, lines: &Lines) -> Option<Finding> {
    if walk.known.key.is_none() || walk.known_key_signed || walk.report.records == 0 {
        return None;
    }
    let detail =
        format!("nothing in it is signed by the key that was named; its keys are {:?}", walk.report.keys);
    let first = walk.report.first.unwrap_or(1);
    Some(found(Kind::ForgedCheckpoint, first, None, lines.path(0), &detail))
}

/// Whether the record that this seal speaks of is here, and another one.
fn differs(walk: &Walk<'_>, seal: &Seal) -> bool {
    walk.wanted.get(&seal.seq).is_some_and(|hash| hash.is_some_and(|hash| hash != seal.hash))
}

fn found(kind: Kind, seq: u64, through: Option<u64>, file: PathBuf, detail: &str) -> Finding {
    Finding { kind, seq, through, file, line: 0, detail: detail.into() }
}
