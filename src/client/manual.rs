//! Completions and the manual page, made from the command line's own definition.

use clap_complete::Shell;

use super::error::{ClientError, code};
use super::output::print;
use crate::cli;

/// A script for a shell.
pub fn completions(shell: &str) -> Result<u8, ClientError> {
    let shell: Shell = shell.parse().map_err(ClientError::Usage)?;
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut cli::definition(), "stockade", &mut script);
    print(&script)?;
    Ok(code::OK)
}

/// One page: the command, then each of its commands.
pub fn man() -> Result<u8, ClientError> {
    let mut page = Vec::new();
    let failed = |source| ClientError::Stream { what: "cannot make the manual", source };
    let mut whole = cli::definition();
    whole.build();
    let first = clap_mangen::Man::new(whole.clone());
    first.render_title(&mut page).map_err(failed)?;
    first.render_name_section(&mut page).map_err(failed)?;
    first.render_description_section(&mut page).map_err(failed)?;
    first.render_options_section(&mut page).map_err(failed)?;
    let mut within = Vec::new();
    for command in whole.get_subcommands().filter(|command| !command.is_hide_set()) {
        gather(command, "stockade", &mut within);
    }
    for (name, command) in within {
        let man = clap_mangen::Man::new(command.display_name(&name).bin_name(&name));
        page.extend(format!(".SH \"{}\"\n", name.to_uppercase()).bytes());
        man.render_synopsis_section(&mut page).map_err(failed)?;
        man.render_description_section(&mut page).map_err(failed)?;
        man.render_options_section(&mut page).map_err(failed)?;
    }
    print(&demoted(&page))?;
    Ok(code::OK)
}

/// A command and those below it, by their whole names; without what every command takes.
fn gather(command: &clap::Command, above: &str, found: &mut Vec<(String, clap::Command)>) {
    if command.get_name() == "help" {
        return;
    }
    let name = format!("{above} {}", command.get_name());
    let own = command.clone().mut_args(|arg| {
        let everywhere = arg.is_global_set() || arg.get_id() == "help";
        arg.hide(everywhere)
    });
    found.push((name.clone(), own));
    command.get_subcommands().for_each(|below| gather(below, &name, found));
}

/// The sections of a command within the page are subsections there.
fn demoted(page: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(page);
    let mut demoted = String::with_capacity(text.len());
    let mut within = false;
    for line in text.lines() {
        within |= line.starts_with(".SH \"STOCKADE ");
        let below = within && [".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"].contains(&line);
        demoted.push_str(&if below { line.replacen(".SH", ".SS", 1) } else { line.to_owned() });
        demoted.push('\n');
    }
    demoted.into_bytes()
}
