//! Commands that talk to a service: what they take. What they do is in `stockade-client`, a program of its own, so that
//! `stockade run` carries no network stack along.

pub mod agent;
pub mod audit;
pub mod hand_over;
pub mod kinds;
pub mod site;
pub mod terminal;
pub mod words;

use std::path::PathBuf;

use clap::Subcommand;

/// How to reach a service, and as whom. What is not given comes from the variable of the same name, else from the file.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Connection to a service")]
pub struct Connection {
    /// The service, like https://node1:7443 [also: STOCKADE_SERVER]
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// Client certificate, PEM [also: STOCKADE_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM [also: STOCKADE_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The only authority that may vouch for the service, PEM [also: STOCKADE_CA]
    #[arg(long, global = true, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// TOML with server, cert, key, ca [also: STOCKADE_CLIENT_CONFIG; default: ~/.config/stockade/client.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub client_config: Option<PathBuf>,
}

/// Commands that `stockade-client` carries out. Each is described where its arguments are.
#[allow(missing_docs)]
#[derive(Debug, Subcommand)]
pub enum Command {
    Spawn(Box<agent::Spawn>),
    Ls(agent::Ls),
    Get(agent::Get),
    Stop(agent::Stop),
    Restart(agent::Restart),
    Wait(agent::Wait),
    Rm(agent::Rm),
    Attach(terminal::Attach),
    Send(terminal::Send),
    Logs(terminal::Logs),
    Screen(terminal::Screen),
    Recording(terminal::Recording),
    Exec(agent::Exec),
    Stats(agent::Stats),
    Events(terminal::Events),
    Login(agent::Login),
    Secret(agent::Secret),
    Node(site::Node),
    Registry(site::Registry),
    Proxy(site::Proxy),
    Dev(site::Dev),
    /// The record of what was done on the node, and by whom
    #[command(subcommand)]
    Audit(audit::Audit),
    #[command(subcommand)]
    Agents(kinds::Kinds),
    /// A small certificate authority for sites without one
    #[command(subcommand)]
    Pki(site::Pki),
    Completions(site::Completions),
    /// Print the manual page, in roff: `stockade man | man -l -`
    Man,
}
