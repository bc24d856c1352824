//! `stockade agents …`: on this host's files alone; no service is asked.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::error::{ClientError, code};
use super::output::{Output, plain, print};
use super::table::Table;
use crate::agents::cast::CastError;
use crate::agents::replay::{line, replay};
use crate::agents::{Kind, KindError, Library, Observation, Watcher, library};
use crate::cli::service::kinds::Kinds;

/// A CLI that was just installed takes seconds to say its version.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of it that are read.
const LONGEST: u64 = 4096;

/// Does it.
pub fn run(output: Output, command: Kinds) -> Result<u8, ClientError> {
    let library = Library::system();
    match command {
        Kinds::List => list(output, &library),
        Kinds::Show { name } => show(output, &library, &name),
        Kinds::Check { file } => check(output, &library, file.as_deref()),
        Kinds::Replay { kind, rules, screens, recording } => {
            let kind = match rules {
                Some(file) => library::check(&file)?,
                None => library.load(&kind.unwrap_or_default())?,
            };
            play(output, kind, &recording, screens)
        }
    }
}

fn list(output: Output, library: &Library) -> Result<u8, ClientError> {
    let mut table = Table::new(&["NAME", "INSTALLED", "SEEN", "WHERE", "DESCRIPTION"]);
    let mut entries = Vec::new();
    let mut code = code::OK;
    for (name, source) in library.names() {
        let kind = library.load(&name);
        let (seen, description) = match &kind {
            Ok(kind) => (kind.seen.join(" "), kind.description.clone()),
            Err(error) => (String::new(), format!("cannot be used: {error}")),
        };
        let installed = kind.as_ref().ok().and_then(version);
        if kind.is_err() {
            code = code::FAILURE;
        }
        let words = [&name, installed.as_deref().unwrap_or("-"), &seen, &source.to_string(), &description];
        table.row(words.iter().map(|word| plain(word)).collect());
        entries.push(json!({
            "name": name, "source": source.to_string(), "description": description, "installed": installed,
            "seen": kind.as_ref().map(|kind| kind.seen.clone()).unwrap_or_default(),
            "error": kind.err().map(|error| error.to_string()),
        }));
    }
    output.result(&entries, || table.draw(|_, _| None))?;
    Ok(code)
}

/// What the installed CLI says its version is.
fn version(kind: &Kind) -> Option<String> {
    let (program, arguments) = kind.launch().version.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    let begun = Instant::now();
    while child.try_wait().ok()?.is_none() {
        if begun.elapsed() > PATIENCE {
            // It is ours, and nobody waits for it any longer.
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::io::Read::take(child.stdout.take()?, LONGEST), &mut text).ok()?;
    let is_version = |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
    text.split_whitespace().find(is_version).map(str::to_owned)
}

fn show(output: Output, library: &Library, name: &str) -> Result<u8, ClientError> {
    let (source, text) = library.source(name)?;
    output.result(&json!({ "source": source.to_string(), "toml": text }), || text.clone())?;
    Ok(code::OK)
}

fn check(output: Output, library: &Library, file: Option<&Path>) -> Result<u8, ClientError> {
    if let Some(file) = file {
        let kind = library::check(file)?;
        let document = json!({ "ok": true, "file": file, "screens": kind.screens.len() });
        output.result(&document, || format!("{}: ok ({} screens)\n", file.display(), kind.screens.len()))?;
        return Ok(code::OK);
    }
    let mut text = String::new();
    let mut entries = Vec::new();
    let mut code = code::OK;
    for (name, source) in library.names() {
        let error = library.load(&name).err().map(|error| error.to_string());
        text.push_str(&format!("{}\n", error.clone().unwrap_or_else(|| format!("{name}: ok ({source})"))));
        if error.is_some() {
            code = code::FAILURE;
        }
        entries.push(
            json!({ "ok": error.is_none(), "name": name, "source": source.to_string(), "error": error }),
        );
    }
    output.result(&entries, || text)?;
    Ok(code)
}

fn play(output: Output, kind: Kind, recording: &Path, screens: bool) -> Result<u8, ClientError> {
    let reader: Box<dyn BufRead> = if recording == Path::new("-") {
        Box::new(BufReader::new(std::io::stdin()))
    } else {
        let file = std::fs::File::open(recording).map_err(|source| ClientError::File {
            verb: "read",
            path: recording.into(),
            source,
        })?;
        Box::new(BufReader::new(file))
    };
    let told = replay(kind, reader, |observation, watcher| {
        let told = if output.voice.json {
            output.document(&line(observation))
        } else {
            print(description(observation, watcher, screens).as_bytes())
        };
        told.map_err(Stopped::Output)
    });
    told.map_err(|stopped| match stopped {
        Stopped::Output(error) => error,
        Stopped::Cast(CastError::Read(source)) => {
            ClientError::File { verb: "read", path: recording.into(), source }
        }
        Stopped::Cast(error) => ClientError::Content { path: recording.into(), detail: error.to_string() },
    })?;
    Ok(code::OK)
}

/// Why a replay came to no end.
enum Stopped {
    Cast(CastError),
    Output(ClientError),
}

impl From<CastError> for Stopped {
    fn from(error: CastError) -> Self {
        Self::Cast(error)
    }
}

fn description(observation: &Observation, watcher: &mut Watcher, screens: bool) -> String {
    let Observation { at, state, evidence, screen, login, .. } = observation;
    let screen = screen.as_deref().unwrap_or("-");
    let mut text = format!("{:>9.3}  {:<14}  {screen}: {evidence}\n", at.as_secs_f64(), state.as_str());
    for detail in login.iter().flat_map(|login| [&login.url, &login.user_code]).flatten() {
        text.push_str(&format!("{:>27}{}\n", "", plain(detail)));
    }
    if screens {
        for row in watcher.view().text().lines() {
            text.push_str(&format!("{:>27}│{}\n", "", plain(row)));
        }
    }
    text
}

impl From<KindError> for ClientError {
    fn from(error: KindError) -> Self {
        match error {
            KindError::Read { path, source } => Self::File { verb: "read", path, source },
            KindError::Unknown { .. } => Self::NotFound(error.to_string()),
            KindError::Untrusted { .. } | KindError::TooLarge { .. } | KindError::Invalid(_) => {
                Self::Failed(error.to_string())
            }
        }
    }
}
