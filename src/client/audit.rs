//! The audit log: read from a service, or verified where it lies.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use http::Method;

use super::error::{ClientError, code};
use super::http::{Client, PATIENCE, query};
use super::output::{Output, plain, print};
use crate::api::node::Rotated;
use crate::audit::verify::{Finding, Known, KnownKey, Report};
use crate::audit::{PublicKey, Seal, verify as examine};
use crate::cli::service::audit as words;

/// How many records of the past `tail` shows.
const LAST: u64 = 10;

/// What asks a service; what does not is done.
pub async fn ask(client: &Client, output: Output, words: words::Audit) -> Result<u8, ClientError> {
    match words {
        words::Audit::Tail(words) => tail(client, words).await,
        words::Audit::Export(words) => export(client, words).await,
        words::Audit::Verify(words) => verify(output, &words),
        words::Audit::RotateKey => {
            let nothing = serde_json::json!({});
            let rotated: Rotated = client.post("/v1/audit/rotate-key", &nothing, PATIENCE).await?;
            let key = rotated.key_id.as_deref().unwrap_or("another key");
            output
                .result(&rotated, || format!("{} signs from record {} on\n", plain(key), rotated.record))?;
            Ok(code::OK)
        }
    }
}

/// Prints what the service recorded.
async fn tail(client: &Client, words: words::Tail) -> Result<u8, ClientError> {
    let from = words.since.map_or(("tail", LAST), |seq| ("since", seq));
    copy(client, Some(from), words.follow, &mut print).await?;
    Ok(code::OK)
}

/// Copies what the service recorded.
async fn export(client: &Client, words: words::Export) -> Result<u8, ClientError> {
    let from = words.since.map(|seq| ("since", seq));
    let Some(path) = words.output else {
        copy(client, from, false, &mut print).await?;
        return Ok(code::OK);
    };
    let failed = |source| ClientError::File { verb: "write", path: path.clone(), source };
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(failed)?;
    copy(client, from, false, &mut |bytes| file.write_all(bytes).map_err(failed)).await?;
    file.sync_all().map_err(failed)?;
    Ok(code::OK)
}

async fn copy(
    client: &Client,
    from: Option<(&str, u64)>,
    follow: bool,
    take: &mut dyn FnMut(&[u8]) -> Result<(), ClientError>,
) -> Result<(), ClientError> {
    let (name, from) = from.unzip();
    let pairs = [
        (name.unwrap_or_default(), from.map(|number| number.to_string())),
        ("follow", follow.then(|| "true".to_owned())),
    ];
    let path = format!("/v1/audit{}", query(&pairs));
    let mut body = client.ask(Method::GET, &path, None, PATIENCE).await?.into_body();
    while let Some(bytes) = client.piece(&mut body).await? {
        take(&bytes)?;
    }
    Ok(())
}

/// Verifies files of this host's.
pub fn verify(output: Output, words: &words::Verify) -> Result<u8, ClientError> {
    let against = words.against.as_deref().map(checkpoint).transpose()?;
    let key = words.signed_by.as_deref().map(key).transpose()?;
    let report = examine(&words.path, &Known { key, against }).map_err(|error| {
        // The cause says more than the text: both go on one line.
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        ClientError::Failed(format!("{error}{cause}"))
    })?;
    output.result(&report, || text(&report))?;
    Ok(if report.intact { code::OK } else { code::INTEGRITY })
}

fn checkpoint(path: &Path) -> Result<Seal, ClientError> {
    let bytes = read(path)?;
    Seal::parse(&bytes).ok_or_else(|| ClientError::Content {
        path: path.into(),
        detail:
            "it holds no checkpoint: a copy of the log's file `head` is one, or a record of type checkpoint"
                .into(),
    })
}

fn key(given: &str) -> Result<KnownKey, ClientError> {
    let is_hex = given.bytes().all(|c| c.is_ascii_hexdigit());
    if is_hex && given.len() == 16 {
        return Ok(KnownKey::Id(given.to_ascii_lowercase()));
    }
    if let Some(key) = PublicKey::parse(given) {
        return Ok(KnownKey::Key(key));
    }
    let path = Path::new(given);
    let text = read(path)?;
    PublicKey::parse(&String::from_utf8_lossy(&text)).map(KnownKey::Key).ok_or_else(|| ClientError::Content {
        path: path.into(),
        detail: "it holds no Ed25519 public key, neither in PEM nor as 64 hexadecimal digits".into(),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, ClientError> {
    fs::read(path).map_err(|source| ClientError::File { verb: "read", path: path.into(), source })
}

fn text(report: &Report) -> String {
    let mut text = match &report.finding {
        Some(finding) => told(finding),
        None => format!("intact: {}\n", extent(report)),
    };
    if let Some(torn) = &report.torn {
        text += &format!(
            "{}:{}: the last line breaks off after {} bytes: it is being written, or power was cut; that is no tampering\n",
            torn.file.display(),
            torn.line,
            torn.bytes
        );
    }
    if report.intact && report.unsealed > 0 {
        text += &format!("not signed yet at the end: {}\n", report.unsealed);
    }
    plain_lines(&text)
}

fn extent(report: &Report) -> String {
    let (Some(first), Some(last)) = (report.first, report.last) else { return "no records yet".into() };
    let keys = match &report.keys[..] {
        [] => "no key is named in it, so that nothing but the chain was verified".to_owned(),
        keys => format!("checkpoints: {}, signed by {}", report.checkpoints, keys.join(", then ")),
    };
    let pruned = report.pruned.map_or_else(String::new, |last| {
        format!("; records up to {last} are kept no longer, which is signed")
    });
    format!("records {first} to {last}; files: {}; {keys}{pruned}", report.segments)
}

fn told(finding: &Finding) -> String {
    let line = if finding.line > 0 { format!(":{}", finding.line) } else { String::new() };
    let records = match finding.through {
        Some(last) => format!("records {} to {last}", finding.seq),
        None => format!("record {}", finding.seq),
    };
    let Finding { kind, file, detail, .. } = finding;
    format!("tampered: {}: {records}: {}{line}: {detail}\n", kind.words(), file.display())
}

/// Names of files may hold what a terminal would obey.
fn plain_lines(text: &str) -> String {
    text.lines().map(|line| plain(line) + "\n").collect()
}
