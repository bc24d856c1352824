//! A login is completed by what it waits for, and by nothing else.

use serde_json::{Value, json};

use super::{complete, gone, login, operator, start, told};
use crate::world::Service;

/// What no log, record or list may hold.
const CODES: [&str; 3] = ["good-code", "wrong-code-5e1c", "planted-code-90ab"];

#[tokio::test]
async fn a_pasted_code_is_typed_and_a_wrong_one_leads_to_another_address() {
    let client = operator();
    start(&client, "paste", "claude", "claude").await;
    let first = login(&client, "paste", |login| login["browserUrl"].is_string()).await;
    assert_eq!((&first["method"], &first["attempts"]), (&json!("paste-code"), &json!(0)), "{first}");
    let refused =
        complete(&client, "paste", json!({ "code": "wrong-code-5e1c#s-1" })).await.expect(200).json();
    assert_eq!(refused["outcome"], "refused", "{refused}");
    assert_eq!(refused["detail"], "OAuth error: Request failed with status code 400");
    let second =
        login(&client, "paste", |login| login["url"].is_string() && login["url"] != first["url"]).await;
    assert!(second["url"].as_str().is_some_and(|url| url.ends_with("state=s-2")), "{second}");
    assert_eq!(second["attempts"], 1);

    let accepted = complete(&client, "paste", json!({ "code": " good-code#s-2\n" })).await.expect(200).json();
    assert_eq!(accepted["outcome"], "accepted", "{accepted}");
    let agent = client.until("/v1/agents/paste", |agent| agent["state"] == "ready").await;
    assert_eq!(agent.get("login"), None, "{agent}");
    let heard: Vec<String> =
        told(&client, "paste").await.into_iter().filter(|line| !line.starts_with("browser")).collect();
    // The key after a login that worked, too, was the service's.
    assert_eq!(heard, ["code wrong-code-5e1c#s-1", "retry ''", "code good-code#s-2", "enter ''"]);
    no_code_is_on_record("paste").await;
    gone(&client, "paste").await;
}

/// The audit has who completed what, and neither it nor any file of the daemon's own has a code.
async fn no_code_is_on_record(id: &str) {
    let service = Service::shared();
    let auditor = service.client("auditor");
    let text = loop {
        let text = auditor.get("/v1/audit").await.expect(200).text();
        if text.contains("loginCompleted") {
            break text;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    let events: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON")["event"].clone())
        .collect();
    let of = |kind: &str| {
        events.iter().filter(|event| event["type"] == kind && event["agent"] == id).collect::<Vec<_>>()
    };
    assert!(of("loginBegun").iter().any(|event| event["site"] == "claude.com"), "{:?}", of("loginBegun"));
    assert_eq!(of("loginCompleted").last().map(|event| &event["outcome"]), Some(&json!("done")));
    let intents = of("intent").into_iter().filter(|event| event["act"] == "login");
    assert!(
        intents.clone().count() >= 2 && intents.clone().all(|event| event["who"]["identity"].is_string()),
        "{events:#?}"
    );
    let acted: Vec<&Value> = of("acted")
        .into_iter()
        .filter(|event| event["act"] == "login")
        .map(|event| &event["outcome"])
        .collect();
    assert_eq!(acted, [&json!("refused"), &json!("done")]);
    for secret in CODES.iter().chain(&["state=s-", "code_challenge"]) {
        assert!(!text.contains(secret), "{secret} is in the audit");
    }
}

#[tokio::test]
async fn a_callback_is_delivered_to_the_port_that_waits_for_it_and_to_no_other() {
    let client = operator();
    start(&client, "callback", "codex", "codex").await;
    let shown = login(&client, "callback", |login| login["callback"].is_string()).await;
    assert_eq!(shown["callback"], "http://localhost:1455/auth/callback", "{shown}");
    for (foreign, why) in [
        ("http://localhost:22/auth/callback?code=good-code&state=s-1", "its port is not 1455"),
        ("http://169.254.169.254:1455/auth/callback?code=good-code&state=s-1", "http://localhost"),
        ("https://localhost:1455/auth/callback?code=good-code&state=s-1", "http://localhost"),
        ("http://localhost:1455/cancel?code=good-code&state=s-1", "its path is not"),
        ("http://localhost:1455/auth/callback?code=good-code&state=s-0", "another login"),
        ("http://localhost:1455/auth/callback", "question mark"),
        ("http://localhost:1455/auth/callback?code=a\r\nx: y&state=s-1", "printable"),
    ] {
        let refused =
            complete(&client, "callback", json!({ "callbackUrl": foreign })).await.expect(422).json();
        assert_eq!(refused["field"], "callbackUrl");
        let detail = refused["detail"].as_str().expect("why");
        assert!(detail.contains(why) && !detail.contains("good-code"), "{detail}");
    }
    assert!(
        !told(&client, "callback").await.iter().any(|line| line.starts_with("asked")),
        "nobody was asked"
    );

    let at = |query: &str| json!({ "callbackUrl": format!("http://127.0.0.1:1455/auth/callback?{query}&state=s-1"), "timeoutMs": 300 });
    let bad = complete(&client, "callback", at("code=planted-code-90ab")).await.expect(200).json();
    assert_eq!(bad["outcome"], "refused", "{bad}");
    let words = bad["detail"].as_str().expect("the CLI's words");
    assert!(
        words.contains("400") && words.contains("The code is not known.") && !words.contains('\x1b'),
        "{words:?}"
    );
    let flood = complete(&client, "callback", at("code=flood")).await.expect(200).json();
    assert!(
        flood["outcome"] == "refused" && flood["detail"].as_str().is_some_and(|words| words.len() <= 300),
        "{flood}"
    );
    let elsewhere = complete(&client, "callback", at("code=elsewhere")).await.expect(200).json();
    assert_eq!(elsewhere["outcome"], "pending", "{elsewhere}");

    let good = complete(
        &client,
        "callback",
        json!({ "callbackUrl": "http://localhost:1455/auth/callback?code=good-code&state=s-1" }),
    )
    .await;
    let good = good.expect(200).json();
    assert_eq!((&good["outcome"], &good["state"]), (&json!("accepted"), &json!("ready")), "{good}");
    let asked: Vec<String> =
        told(&client, "callback").await.into_iter().filter(|line| line.starts_with("asked")).collect();
    // Where an answer leads on to is fetched, too; what leads elsewhere is not.
    assert_eq!(
        asked[3..],
        [
            "asked /auth/callback?code=good-code&state=s-1 of localhost:1455",
            "asked /success?id=x of localhost:1455",
        ]
    );
    gone(&client, "callback").await;
}

#[tokio::test]
async fn what_completes_no_login_is_refused_before_anything_is_typed() {
    let client = operator();
    start(&client, "none", "claude", "ready").await;
    client.until("/v1/agents/none", |agent| agent["state"] == "ready").await;
    let refused = complete(&client, "none", json!({ "code": "good-code" })).await.expect(409).json();
    assert!(refused["detail"].as_str().is_some_and(|why| why.contains("waits for no login")), "{refused}");
    client.get("/v1/agents/none/login").await.expect(404);
    gone(&client, "none").await;

    start(&client, "menu", "claude", "menu").await;
    login(&client, "menu", |login| login["method"] == "unknown").await;
    let refused = complete(&client, "menu", json!({ "code": "good-code" })).await.expect(409).json();
    assert!(refused["detail"].as_str().is_some_and(|why| why.contains("not chosen yet")), "{refused}");
    complete(&client, "menu", json!({ "callbackUrl": "http://localhost:1/x?y" })).await.expect(409);
    complete(&client, "menu", json!({})).await.expect(422);
    complete(&client, "menu", json!({ "code": "a", "callbackUrl": "b" })).await.expect(422);
    complete(&client, "menu", json!({ "secret": "a" })).await.expect(422);
    let shown = client.get("/v1/agents/menu/login").await.expect(200).json();
    assert_eq!(shown["attempts"], 0, "{shown}");
    gone(&client, "menu").await;

    start(&client, "keys", "claude", "claude").await;
    login(&client, "keys", |login| login["url"].is_string()).await;
    for hostile in ["", "a b", "a\rb", "\u{1b}[201~x", &"x".repeat(5000)] {
        let refused = complete(&client, "keys", json!({ "code": hostile })).await.expect(422).json();
        assert_eq!(refused["field"], "code", "{refused}");
    }
    assert!(!told(&client, "keys").await.iter().any(|line| line.starts_with("code")));
    gone(&client, "keys").await;
}

#[tokio::test]
async fn a_viewer_sees_a_login_and_may_not_complete_it() {
    let client = operator();
    start(&client, "viewed", "claude", "claude").await;
    login(&client, "viewed", |login| login["url"].is_string()).await;
    let viewer = Service::shared().client("viewer");
    let shown = viewer.get("/v1/agents/viewed/login").await.expect(200).json();
    assert!(shown["url"].is_string() && shown["since"].is_string(), "{shown}");
    complete(&viewer, "viewed", json!({ "code": "good-code#s-1" })).await.expect(403);
    complete(&Service::shared().client("auditor"), "viewed", json!({ "code": "good-code#s-1" }))
        .await
        .expect(403);
    assert!(!told(&client, "viewed").await.iter().any(|line| line.starts_with("code")));
    gone(&client, "viewed").await;
}
