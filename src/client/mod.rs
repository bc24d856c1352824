//! `stockade …` against a service: what needs TLS, HTTP or a WebSocket. A program of its own, `stockade-client`.
//!
//! ```text
//!  arguments (cli) ▸ which service, as whom (config) ▸ TLS (tls) ─┬▸ request and answer (http) ▸ agents, texts, node
//!                                                                  ├▸ a WebSocket, again and again (attach)
//!                                                                  └▸ anybody's bytes (proxy)
//! ```

mod agents;
mod attach;
mod audit;
mod authority;
pub mod config;
mod dev;
pub mod error;
pub mod http;
mod kinds;
mod login;
mod logs;
mod manual;
mod node;
pub mod output;
pub mod pki;
mod proxy;
mod registry;
mod setup;
pub mod sse;
pub mod table;
mod texts;
pub mod tls;

use std::process::ExitCode;

use self::error::ClientError;
use self::http::Client;
use self::output::Output;
use crate::cli::service::{Command, Connection, audit as words, site};

/// Runs the command line.
pub fn main() -> ExitCode {
    let (voice, connection, command) = match crate::cli::service_arguments() {
        Ok(arguments) => arguments,
        Err(code) => return code,
    };
    let output = Output { voice };
    let code = run(output, &connection, command).unwrap_or_else(|error| {
        output.complain(&error);
        error.exit_code()
    });
    ExitCode::from(code)
}

fn run(output: Output, connection: &Connection, command: Command) -> Result<u8, ClientError> {
    // One thread: what a client does is wait.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| ClientError::Stream { what: "cannot start", source })?;
    let code = match command {
        Command::Completions(words) => manual::completions(&words.shell),
        Command::Man => manual::man(),
        Command::Dev(words) => runtime.block_on(dev::dev(output, words)),
        Command::Agents(command) => kinds::run(output, command),
        Command::Pki(command) => authority::run(output, command),
        Command::Registry(words) if words.command.etcd().is_named() => {
            runtime.block_on(registry::in_etcd(output, &words.command))
        }
        Command::Node(site::Node { command: Some(site::NodeCommand::Ls(etcd)) }) if etcd.is_named() => {
            runtime.block_on(registry::nodes_in_etcd(output, &etcd))
        }
        // Files of this host's: no service is asked.
        Command::Audit(words::Audit::Verify(words)) => audit::verify(output, &words),
        command => {
            let client = Client { target: config::target(connection, |name| std::env::var_os(name))? };
            runtime.block_on(ask(&client, output, command))
        }
    };
    // A thread that still reads standard input must not hold up the end.
    runtime.shutdown_background();
    code
}

async fn ask(client: &Client, output: Output, command: Command) -> Result<u8, ClientError> {
    match command {
        Command::Spawn(words) => agents::spawn(client, output, *words).await,
        Command::Ls(words) => agents::ls(client, output, words).await,
        Command::Get(words) => agents::get(client, output, words).await,
        Command::Stop(words) => agents::stop(client, output, words).await,
        Command::Restart(words) => agents::restart(client, output, words).await,
        Command::Wait(words) => agents::wait(client, output, words).await,
        Command::Rm(words) => agents::rm(client, output, words).await,
        Command::Exec(words) => agents::exec(client, output, words).await,
        Command::Stats(words) => agents::stats(client, output, words).await,
        Command::Login(words) => login::login(client, output, words).await,
        Command::Secret(words) => agents::secret(client, output, words).await,
        Command::Send(words) => texts::send(client, output, words).await,
        Command::Logs(words) => logs::logs(client, output, words).await,
        Command::Screen(words) => texts::screen(client, output, words).await,
        Command::Recording(words) => texts::recording(client, output, words).await,
        Command::Events(words) => texts::events(client, output, words).await,
        Command::Audit(words) => audit::ask(client, output, words).await,
        Command::Registry(words) => registry::of_service(client, output, &words.command).await,
        Command::Node(site::Node { command: Some(site::NodeCommand::Ls(_)) }) => {
            registry::node_of_service(client, output).await
        }
        Command::Node(words) => node::node(client, output, words).await,
        Command::Attach(words) => attach::attach(client, output, words).await,
        Command::Proxy(words) => proxy::proxy(&client.target, output, words).await,
        Command::Agents(_) | Command::Completions(_) | Command::Dev(_) | Command::Man | Command::Pki(_) => {
            unreachable!("these ask no service")
        }
    }
}
