//! What a thread puts out while it works, as `thread_output`: gathered, because Parallax writes each into its database.

use std::time::Duration;

use serde_json::json;

use super::bus::Envelope;
use super::store::Record;
use super::{Parallax, text};
use crate::daemon::api::follow::Follow;

/// At most one event in so long.
const GATHERED: Duration = Duration::from_secs(1);

/// Tells of this thread's output until its agent ends.
pub fn follow(parallax: &Parallax, record: &Record) {
    let Ok(terminal) = parallax.supervisor.terminal(&parallax.eye, &record.id) else { return };
    let (parallax, id) = (parallax.clone(), record.id.clone());
    tokio::spawn(async move {
        let told = async {
            let mut lines = Follow::from_now(terminal, GATHERED).await?;
            while let Some(lines) = lines.next().await? {
                let lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
                tell(&parallax, &id, &lines.join("\n"));
            }
            std::io::Result::Ok(())
        };
        if let Err(error) = told.await {
            tracing::warn!(thread = id, %error, "output of a thread cannot be read");
        }
    });
}

fn tell(parallax: &Parallax, id: &str, output: &str) {
    let Some(record) = parallax.threads.get(id) else { return };
    // Nothing comes after a thread's end.
    if record.ended || output.trim().is_empty() || !parallax.bus.is_heard(&record.tenant) {
        return;
    }
    let agent = parallax.supervisor.get(&parallax.eye, id).ok();
    let handle = record.handle(agent.as_ref(), &parallax.runtime_name);
    // Never as `message`: that would be typed to the thread's manager.
    let data = json!({ "output": text::last(output) });
    parallax.bus.publish(Envelope::of_thread(&record.tenant, &handle, "thread_output", Some(data)));
}
