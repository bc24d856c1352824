//! What an agent says about its login, truthfully or not.

use serde_json::json;

use super::{complete, gone, login, operator, start, told};
use crate::world::PATIENCE;

#[tokio::test]
async fn what_was_to_be_opened_in_a_browser_is_exact_where_the_screen_is_not() {
    let client = operator();
    start(&client, "browser", "codex", "codex").await;
    let shown = login(&client, "browser", |login| login["urlSource"] == "browser").await;
    let url = shown["url"].as_str().expect("an address");
    assert!(url.ends_with("&code_challenge=c&state=s-1"), "{url}");
    // The page alone has only its beginning.
    let screen = client.get("/v1/agents/browser/screen").await.expect(200).text();
    assert!(!screen.contains("state=s-1"), "{screen}");
    // The stand-in says that it opened it, once it has told whose page that is.
    let deadline = std::time::Instant::now() + PATIENCE;
    while !told(&client, "browser").await.contains(&"browser 0".to_owned()) {
        assert!(std::time::Instant::now() < deadline, "the stand-in did not say that it opened it");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    gone(&client, "browser").await;
}

#[tokio::test]
async fn what_an_agent_makes_up_about_its_login_is_not_offered() {
    let client = operator();
    start(&client, "hostile", "claude", "hostile").await;
    let shown = login(&client, "hostile", |login| login["url"].is_string()).await;
    assert_eq!(shown["urlSource"], "screen", "{shown}");
    assert!(shown["url"].as_str().is_some_and(|url| url.ends_with("state=s-1")), "{shown}");
    for name in ["browserUrl", "callback"] {
        assert_eq!(shown.get(name), None, "{shown}");
    }
    // It leads back to no port, so nothing is delivered to one.
    complete(&client, "hostile", json!({ "callbackUrl": "http://localhost:22/?state=s-9" }))
        .await
        .expect(409);
    let agent = client.get("/v1/agents/hostile").await.expect(200).text();
    assert!(!agent.contains("owned") && !agent.contains("evil"), "{agent}");
    gone(&client, "hostile").await;
}

#[tokio::test]
async fn only_policies_that_say_so_have_a_browsers_stand_in() {
    let client = operator();
    let look = "printf '%s|' \"$BROWSER\"; command -v xdg-open; ls /run/stockade";
    for (id, kind, there) in [("with", "claude", true), ("without", "shell", false)] {
        let request = json!({ "id": id, "type": kind, "command": ["sleep", "60"] });
        client.ask("POST", "/v1/agents", request).await.expect(201);
        let exec = json!({ "command": ["sh", "-c", look] });
        let ran = client.ask("POST", &format!("/v1/agents/{id}/exec"), exec).await.expect(200).json();
        let said = ran["stdout"].as_str().expect("text");
        let stands_in = said.starts_with("/run/stockade/bin/xdg-open|/run/stockade/bin/xdg-open\n");
        assert_eq!(stands_in, there, "{ran}");
        if there {
            // It is the sandbox's own: nobody inside changes it.
            let change = json!({ "command": ["sh", "-c", "echo x >/run/stockade/bin/xdg-open"] });
            let ran = client.ask("POST", &format!("/v1/agents/{id}/exec"), change).await.expect(200).json();
            assert_ne!(ran["exitCode"], 0, "{ran}");
        }
        gone(&client, id).await;
    }
}
