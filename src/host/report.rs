//! What `stockade doctor` concludes: how much of each protection there is, and which policies can start.

use std::collections::BTreeSet;

use serde::Serialize;

use super::examine::{Finding, Status};
use super::feature::Feature;
use super::{Host, Wanted};
use crate::id::PolicyName;
use crate::policy::{Policy, Shortfall};

/// The policy by which a host is judged.
const BASE: &str = "base";

/// The whole document; its field names are a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `uname -r`.
    pub kernel: String,
    /// One for each [`Feature`], in order.
    pub features: Vec<FeatureReport>,
    /// One for each policy, by name.
    pub policies: Vec<PolicyReport>,
}

/// How much of one feature this host has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeatureReport {
    /// What was looked at.
    pub name: Feature,
    /// `missing` if `base` cannot do without it.
    pub status: Status,
    /// What was seen.
    pub detail: String,
    /// What to do about it; none where all is well.
    pub remedy: Option<&'static str>,
}

/// Whether one policy can start on this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyReport {
    /// Which policy.
    pub name: PolicyName,
    /// Whether an agent under it would start.
    pub can_start: bool,
    /// What it asks for and this host lacks, tolerated or not.
    pub shortfalls: BTreeSet<Shortfall>,
    /// Why it cannot start.
    pub reason: Option<String>,
}

impl Report {
    /// Judges what was found by what the policies ask for; a policy that cannot be loaded comes with the reason.
    pub fn new(
        host: &Host,
        findings: &[Finding],
        policies: Vec<(PolicyName, Result<Policy, String>)>,
    ) -> Self {
        let base = policies
            .iter()
            .find(|(name, _)| name.as_str() == BASE)
            .and_then(|(_, policy)| policy.as_ref().ok());
        let features = findings.iter().map(|finding| FeatureReport::new(host, finding, base)).collect();
        let policies =
            policies.iter().map(|(name, policy)| PolicyReport::new(name, policy, host, findings)).collect();
        Self { kernel: host.kernel.clone(), features, policies }
    }

    /// Whether `base` can be enforced in full: it can start, and no protection is missing. A protection that is
    /// lacking and that `base` tolerates or does not ask for is `degraded`, and does not count.
    pub fn is_base_enforced(&self) -> bool {
        let starts = self.policies.iter().any(|policy| policy.name.as_str() == BASE && policy.can_start);
        starts && self.features.iter().all(|feature| feature.status != Status::Missing)
    }
}

impl FeatureReport {
    fn new(host: &Host, finding: &Finding, base: Option<&Policy>) -> Self {
        let status = match base {
            Some(base) if can_do_without(base, finding) => finding.status.min(Status::Degraded),
            _ => finding.status,
        };
        let untried = host.euid != 0 && finding.feature.takes_root_to_try();
        let mends = if untried { Feature::Root } else { finding.feature };
        let remedy = (status != Status::Ok).then(|| mends.remedy());
        Self { name: finding.feature, status, detail: finding.detail.clone(), remedy }
    }
}

fn can_do_without(policy: &Policy, finding: &Finding) -> bool {
    let tolerated = &policy.tolerate.shortfalls;
    !finding.shortfalls.is_empty() && wanted(policy, &finding.shortfalls).is_subset(tolerated)
}

fn wanted(policy: &Policy, shortfalls: &BTreeSet<Shortfall>) -> BTreeSet<Shortfall> {
    let wanted = Wanted::from(policy);
    shortfalls.iter().copied().filter(|shortfall| wanted.includes(*shortfall)).collect()
}

impl PolicyReport {
    fn new(name: &PolicyName, policy: &Result<Policy, String>, host: &Host, findings: &[Finding]) -> Self {
        let (shortfalls, reason) = match policy {
            Err(reason) => (BTreeSet::new(), Some(reason.clone())),
            Ok(policy) => {
                let lacking = findings.iter().flat_map(|finding| &finding.shortfalls).copied().collect();
                let shortfalls = wanted(policy, &lacking);
                let reason = nothing_starts(host, findings)
                    .or_else(|| no_network(policy, host))
                    .or_else(|| intolerable(policy, &shortfalls));
                (shortfalls, reason)
            }
        };
        Self { name: name.clone(), can_start: reason.is_none(), shortfalls, reason }
    }
}

fn nothing_starts(host: &Host, findings: &[Finding]) -> Option<String> {
    if let Some(refusal) = host.refusals().first() {
        return Some(refusal.to_string());
    }
    let needed =
        findings.iter().filter(|finding| finding.status == Status::Missing && finding.feature.is_required());
    let names: Vec<&str> = needed.map(|finding| finding.feature.name()).collect();
    (!names.is_empty()).then(|| format!("every sandbox needs {}", names.join(", ")))
}

fn no_network(policy: &Policy, host: &Host) -> Option<String> {
    let refusals = if policy.network.has_destinations() { host.network_refusals() } else { Vec::new() };
    refusals.first().map(ToString::to_string)
}

fn intolerable(policy: &Policy, shortfalls: &BTreeSet<Shortfall>) -> Option<String> {
    let names: Vec<&str> =
        shortfalls.difference(&policy.tolerate.shortfalls).map(|shortfall| shortfall.name()).collect();
    (!names.is_empty()).then(|| format!("it does not tolerate {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::super::Seccomp;
    use super::*;
    use crate::policy::{Access, Bytes, Io, Tolerate};

    fn able() -> Host {
        Host {
            kernel: "6.18.0".into(),
            landlock_abi: 7,
            audit: Ok(()),
            seccomp: Seccomp { filter: true, notify: true },
            user_namespaces: true,
            euid: 0,
            missing_capabilities: BTreeSet::new(),
            missing_for_network: BTreeSet::new(),
            missing_calls: Vec::new(),
            swap: false,
        }
    }

    fn policy(name: &str, tolerated: &[Shortfall]) -> Policy {
        Policy {
            name: name.parse().expect("a name"),
            description: String::new(),
            agent: Default::default(),
            filesystem: Default::default(),
            network: Default::default(),
            limits: Default::default(),
            syscalls: Default::default(),
            capabilities: Default::default(),
            environment: Default::default(),
            terminal: Default::default(),
            tolerate: Tolerate { shortfalls: tolerated.iter().copied().collect() },
        }
    }

    /// All is well, but for one feature.
    fn lacking(feature: Feature) -> Vec<Finding> {
        let of = |found: &Feature| match *found == feature {
            true => Finding::missing(*found, "taken away"),
            false => Finding::ok(*found, "works"),
        };
        Feature::ALL.iter().map(of).collect()
    }

    fn report(findings: &[Finding], policies: Vec<Policy>) -> Report {
        Report::new(
            &able(),
            findings,
            policies.into_iter().map(|policy| (policy.name.clone(), Ok(policy))).collect(),
        )
    }

    #[test]
    fn a_host_that_has_everything_enforces_base_in_full() {
        let all: Vec<Finding> = Feature::ALL.iter().map(|feature| Finding::ok(*feature, "works")).collect();
        let report = report(&all, vec![policy("base", &[])]);
        assert!(report.is_base_enforced());
        assert!(report.features.iter().all(|feature| feature.remedy.is_none()));
        assert_eq!(report.policies[0].reason, None);
    }

    #[test]
    fn without_a_required_feature_no_policy_starts_and_the_feature_is_named() {
        let required: Vec<Feature> =
            Feature::ALL.iter().copied().filter(|feature| feature.is_required()).collect();
        assert!(required.len() > 10, "{required:?}");
        for feature in required {
            // Even a policy that tolerates whatever can be tolerated.
            let report = report(&lacking(feature), vec![policy("base", &Shortfall::ALL)]);
            let base = &report.policies[0];
            assert!(!base.can_start && !report.is_base_enforced(), "started without {feature}");
            assert!(
                base.reason.as_ref().is_some_and(|reason| reason.contains(feature.name())),
                "{:?}",
                base.reason
            );
        }
    }

    #[test]
    fn a_shortfall_is_missing_until_base_tolerates_it_by_its_own_name() {
        for feature in Feature::ALL {
            let Some(shortfall) = feature.shortfall() else { continue };
            let mut strict = policy("base", &[]);
            strict.filesystem.workspace = Access::ReadOnly;
            strict.limits.io = Some(Io { read: Bytes::mib(1), write: Bytes::mib(1) });
            let mut tolerant = strict.clone();
            tolerant.tolerate.shortfalls.insert(shortfall);
            let mut beside_the_point = strict.clone();
            beside_the_point.tolerate.shortfalls =
                Shortfall::ALL.into_iter().filter(|other| *other != shortfall).collect();

            for refused in [strict, beside_the_point] {
                let report = report(&lacking(*feature), vec![refused]);
                assert!(!report.is_base_enforced(), "{feature}");
                assert_eq!(status(&report, *feature), Status::Missing);
                assert_eq!(report.policies[0].shortfalls, [shortfall].into());
                let reason = report.policies[0].reason.as_deref();
                assert_eq!(reason, Some(format!("it does not tolerate {shortfall}").as_str()));
            }
            let report = report(&lacking(*feature), vec![tolerant]);
            assert!(report.is_base_enforced(), "{feature}");
            assert_eq!(status(&report, *feature), Status::Degraded);
            assert_eq!(report.policies[0].shortfalls, [shortfall].into());
        }
    }

    fn status(report: &Report, feature: Feature) -> Status {
        report.features.iter().find(|found| found.name == feature).expect("every feature is reported").status
    }

    #[test]
    fn each_policy_is_judged_by_what_it_asks_for_itself() {
        let mut io = policy("io", &[]);
        io.limits.io = Some(Io { read: Bytes::mib(1), write: Bytes::mib(1) });
        let report = report(&lacking(Feature::IoLimit), vec![policy("base", &[]), io]);
        assert!(report.policies[0].can_start, "base asks for no I/O limit");
        assert!(!report.policies[1].can_start);
        assert!(report.is_base_enforced());
    }

    #[test]
    fn a_host_is_not_judged_by_a_base_that_cannot_be_read() {
        let all: Vec<Finding> = Feature::ALL.iter().map(|feature| Finding::ok(*feature, "works")).collect();
        let unreadable =
            Report::new(&able(), &all, vec![("base".parse().expect("a name"), Err("no such file".into()))]);
        assert!(!unreadable.is_base_enforced());
        assert_eq!(unreadable.policies[0].reason.as_deref(), Some("no such file"));
        assert!(!Report::new(&able(), &all, vec![]).is_base_enforced(), "nothing was judged");
    }

    #[test]
    fn an_unfit_host_starts_nothing_whatever_was_found() {
        let all: Vec<Finding> = Feature::ALL.iter().map(|feature| Finding::ok(*feature, "works")).collect();
        let host = Host { euid: 1000, ..able() };
        let base = policy("base", &Shortfall::ALL);
        let report = Report::new(&host, &all, vec![(base.name.clone(), Ok(base))]);
        assert!(!report.is_base_enforced());
    }

    #[test]
    fn who_is_not_root_is_not_sent_to_change_settings() {
        let host = Host { euid: 1000, ..able() };
        for (feature, mends) in [
            (Feature::UserNamespace, Feature::Root),
            (Feature::Devpts, Feature::Root),
            (Feature::MemoryLimit, Feature::Root),
            (Feature::RunDirectory, Feature::Root),
            (Feature::Openat2, Feature::Openat2),
            (Feature::Landlock, Feature::Landlock),
            (Feature::UidRange, Feature::UidRange),
        ] {
            let report = Report::new(&host, &lacking(feature), vec![]);
            let found = report.features.iter().find(|found| found.name == feature).expect("it is reported");
            assert_eq!(found.remedy, Some(mends.remedy()), "{feature}");
        }
    }

    #[test]
    fn the_names_in_the_json_document_stay() {
        let report = report(&lacking(Feature::SwapLimit), vec![policy("base", &[])]);
        let document = serde_json::to_value(&report).expect("plain data");
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().expect("an object").keys().cloned().collect()
        };
        assert_eq!(keys(&document), ["features", "kernel", "policies"]);
        for feature in document["features"].as_array().expect("a list") {
            assert_eq!(keys(feature), ["detail", "name", "remedy", "status"]);
        }
        assert_eq!(keys(&document["policies"][0]), ["canStart", "name", "reason", "shortfalls"]);
        assert_eq!(document["policies"][0]["shortfalls"], serde_json::json!(["swap-limit"]));
        let statuses: BTreeSet<_> = report.features.iter().map(|feature| feature.status).collect();
        assert_eq!(serde_json::to_value(statuses).expect("plain data"), serde_json::json!(["ok", "missing"]));
        let names: Vec<&str> = Feature::ALL.iter().map(|feature| feature.name()).collect();
        assert_eq!(
            names.join(" "),
            "root capabilities user-namespace mount-namespace pid-namespace network-namespace ipc-namespace \
             uts-namespace cgroup-namespace time-namespace mount-api idmapped-mount procfs devpts openat2 pidfd \
             close-range landlock landlock-errata landlock-audit seccomp-filter seccomp-notify memory-limit swap-limit cpu-limit \
             process-limit io-limit cgroup-kill clone-into-cgroup uid-range run-directory executable-homes tiocsti \
             core-pattern apparmor-userns yama lockdown"
        );
    }
}
