//! From `stockade` to `stockade-client`: the same arguments, variables and streams, another program.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// Beside this program.
const CLIENT: &str = "stockade-client";

/// Becomes it. Returns only if that failed: why.
pub fn hand_over() -> String {
    let program = match beside() {
        Ok(program) => program,
        Err(error) => return format!("cannot find out where this program is: {error}"),
    };
    let mut arguments = std::env::args_os();
    let mut command = Command::new(&program);
    command.arg0(arguments.next().unwrap_or_else(|| "stockade".into())).args(arguments);
    let error = command.exec();
    match error.kind() {
        io::ErrorKind::NotFound => format!(
            "{} is missing: it carries out commands against a service, and is installed beside stockade",
            program.display()
        ),
        _ => format!("cannot execute {}: {error}", program.display()),
    }
}

fn beside() -> io::Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name(CLIENT))
}
