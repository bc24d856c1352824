//! Package managers with nothing but their registries allowed, as they are configured on this host; and without. Where no
//! registry answers the host itself, the test says so and leaves the rest out.

mod common;

use std::collections::BTreeSet;
use std::process::{Command, Output, Stdio};

use common::stockade::{STOCKADE, directory, text, told};

/// Small, without dependencies, and as old as its registry.
const NPM_PACKAGE: &str = "ms";
const PIP_PACKAGE: &str = "six";

/// Prints the index's own address, then that of each file of a package, as pip would find them.
const PIP_HOSTS: &str = "import html.parser, sys, urllib.parse, urllib.request
from pip._internal.configuration import Configuration
from pip._internal.models.index import PyPI
settings = Configuration(isolated=False)
settings.load()
index = dict(settings.items()).get('global.index-url', PyPI.simple_url)
page = index.rstrip('/') + '/' + sys.argv[1] + '/'
print(index)
class Links(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes):
        if tag == 'a':
            print(urllib.parse.urljoin(page, dict(attributes).get('href', '')))
with urllib.request.urlopen(page, timeout=60) as answer:
    Links().feed(answer.read().decode())";

fn host(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && said.contains("://")).then_some(said)
}

/// `host:port` of each URL.
fn destinations(urls: &str) -> BTreeSet<String> {
    let of = |url: &str| {
        let (scheme, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
        let port = if scheme == "http" { 80 } else { 443 };
        Some(if authority.contains(':') { authority.to_owned() } else { format!("{authority}:{port}") })
    };
    urls.lines().filter_map(of).collect()
}

/// `stockade run --policy shell` in an empty workspace, with these destinations.
fn run(allow: &BTreeSet<String>, script: &str) -> Output {
    let workspace = directory();
    let mut command = Command::new(STOCKADE);
    command.args(["run", "--policy", "shell", "--workspace", text(workspace.path())]);
    for destination in allow {
        command.args(["--allow", destination]);
    }
    // Node brings certificates of its own; the host's may have more.
    command.args(["--env", "NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt"]);
    command.args(["--", "sh", "-c", script]).current_dir(workspace.path()).stdin(Stdio::null());
    command.output().expect("stockade starts")
}

fn works_with_its_registry_and_not_without(allow: &BTreeSet<String>, script: &str) {
    let output = run(allow, script);
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), told(&output));
    // What cannot work is tried once.
    let script = format!("export npm_config_fetch_retries=0 PIP_RETRIES=0; {script}");
    let output = run(&BTreeSet::from(["nobody.example.test:443".into()]), &script);
    assert!(!output.status.success(), "without its registry: {}", String::from_utf8_lossy(&output.stdout));
    assert!(told(&output).contains("stockade: refused name "), "{}", told(&output));
}

#[test]
fn npm_installs_a_package_from_its_registry_alone_where_one_answers_this_host() {
    let (Some(registry), Some(file)) =
        (host("npm", &["config", "get", "registry"]), host("npm", &["view", NPM_PACKAGE, "dist.tarball"]))
    else {
        return println!("left out: no npm registry answers this host");
    };
    let allow = destinations(&format!("{registry}\n{file}"));
    let script = format!(
        "npm install --registry {registry} --no-audit --no-fund {NPM_PACKAGE} \
         && node -e 'if (require(\"{NPM_PACKAGE}\")(\"1s\") !== 1000) process.exit(1)'"
    );
    works_with_its_registry_and_not_without(&allow, &script);
}

#[test]
fn pip_downloads_a_package_from_its_index_alone_where_one_answers_this_host() {
    let Some(said) = host("python3", &["-c", PIP_HOSTS, PIP_PACKAGE]) else {
        return println!("left out: no pip index answers this host");
    };
    let index = said.lines().next().expect("a line").to_owned();
    let script = format!(
        "python3 -m pip download --index-url {index} --no-deps --no-cache-dir \
         --cert /etc/ssl/certs/ca-certificates.crt {PIP_PACKAGE} && ls {PIP_PACKAGE}*"
    );
    works_with_its_registry_and_not_without(&destinations(&said), &script);
}

#[test]
fn a_destination_is_read_from_an_address_of_the_web() {
    let read =
        destinations("https://a.example/x\nhttp://b.example\nhttps://u:p@c.example:8443/y?z\nnothing\n");
    assert_eq!(read.into_iter().collect::<Vec<_>>(), ["a.example:443", "b.example:80", "c.example:8443"]);
}
