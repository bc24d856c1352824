//! Lists in pages, and filters over them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::query::Query;
use crate::api::agent::{Agent, AgentPage};
use crate::daemon::problem::Fault;

/// What [`Filter`] and [`page`] read of a query.
pub const PARAMETERS: &[&str] = &["type", "status", "state", "label", "limit", "cursor"];

const PAGE: usize = 100;
const LONGEST_PAGE: usize = 500;

/// Which agents are wanted. Nothing named: all.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Filter {
    kinds: Vec<String>,
    states: Vec<String>,
    labels: Vec<(String, Option<String>)>,
}

impl Filter {
    /// `type` and `status` take one of several, `label` (`k` or `k=v`) all of several.
    pub fn of(query: &Query) -> Self {
        let labels = query.every("label").map(|text| match text.split_once('=') {
            Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
            None => (text.to_owned(), None),
        });
        let states = [query.list("status"), query.list("state")].concat();
        Self { kinds: query.list("type"), states, labels: labels.collect() }
    }

    /// Whether this one is wanted.
    pub fn takes(&self, agent: &Agent) -> bool {
        let one_of = |wanted: &[String], given: &str| wanted.is_empty() || wanted.iter().any(|w| w == given);
        one_of(&self.kinds, &agent.kind)
            && one_of(&self.states, agent.state.as_str())
            && self.labels.iter().all(|(key, value)| {
                agent.labels.get(key).is_some_and(|given| value.as_ref().is_none_or(|v| v == given))
            })
    }
}

/// One page of agents in order of their ids, filtered.
///
/// # Errors
/// 400 for a limit that is none, or a cursor that was not given out here.
pub fn page(agents: Vec<Agent>, query: &Query) -> Result<AgentPage, Fault> {
    let limit = query.number("limit")?.unwrap_or(PAGE);
    if !(1..=LONGEST_PAGE).contains(&limit) {
        return Err(Fault::malformed_field("limit", format_args!("limit: 1 to {LONGEST_PAGE}")));
    }
    let after = query.one("cursor").map(last_id).transpose()?;
    let filter = Filter::of(query);
    let mut wanted = agents
        .into_iter()
        .filter(|agent| after.as_ref().is_none_or(|id| agent.id > *id))
        .filter(|agent| filter.takes(agent));
    let agents: Vec<Agent> = wanted.by_ref().take(limit).collect();
    let cursor = wanted.next().and(agents.last()).map(|agent| URL_SAFE_NO_PAD.encode(&agent.id));
    Ok(AgentPage { agents, cursor })
}

fn last_id(cursor: &str) -> Result<String, Fault> {
    let id = URL_SAFE_NO_PAD.decode(cursor).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let id = id.filter(|id| id.parse::<crate::id::AgentId>().is_ok());
    id.ok_or_else(|| Fault::malformed_field("cursor", "cursor: use one that an earlier page came with"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::api::examples::agent;

    fn query(text: &str) -> Query {
        Query::parse(text).unwrap_or_else(|_| panic!("{text}"))
    }

    fn ids(page: &AgentPage) -> Vec<&str> {
        page.agents.iter().map(|agent| agent.id.as_str()).collect()
    }

    #[test]
    fn pages_together_are_the_list_without_a_hole_or_a_double() {
        let all: Vec<Agent> = (0..7).map(|n| agent(&format!("a{n}"))).collect();
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = page(all.clone(), &query(&format!("limit=3{cursor}"))).expect("a page");
            seen.extend(ids(&page).iter().map(|id| (*id).to_owned()));
            match page.cursor {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        assert_eq!(seen, ["a0", "a1", "a2", "a3", "a4", "a5", "a6"]);
    }

    #[test]
    fn a_page_that_ends_with_the_list_has_no_cursor() {
        let all: Vec<Agent> = (0..3).map(|n| agent(&format!("a{n}"))).collect();
        assert_eq!(page(all, &query("limit=3")).ok().and_then(|p| p.cursor), None);
    }

    #[test]
    fn limits_and_cursors_that_are_none_are_refused() {
        for text in ["limit=0", "limit=501", "limit=x", "cursor=!", "cursor=Li4vLi4"] {
            assert!(page(vec![], &query(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn filters_take_one_of_several_kinds_and_all_of_several_labels() {
        let mut one = agent("a");
        one.labels = [("team".into(), "x".into()), ("tier".into(), "1".into())].into();
        for (text, taken) in [
            ("", true),
            ("type=shell,claude", true),
            ("type=claude", false),
            ("status=ready&status=busy", true),
            ("status=exited", false),
            ("label=team", true),
            ("label=team=x&label=tier=1", true),
            ("label=team=x&label=tier=2", false),
        ] {
            assert_eq!(Filter::of(&query(text)).takes(&one), taken, "{text}");
        }
    }
}
