//! The hosts at which the vendors' accounts live: device codes, codes and tokens for one account that nobody has.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::tls::Tls;

/// What a user would type at Codex's address.
pub const USER_CODE: &str = "LAB1-CODE2";
/// The only code for which there is a token.
pub const GOOD_CODE: &str = "good-code-4711";

/// Every host that it stands for.
pub const HOSTS: [&str; 10] = [
    "api.anthropic.com",
    "platform.claude.com",
    "auth.openai.com",
    "api.openai.com",
    "chatgpt.com",
    "oauth2.googleapis.com",
    "www.googleapis.com",
    "cloudcode-pa.googleapis.com",
    "generativelanguage.googleapis.com",
    "openrouter.ai",
];

/// All of them at one address of the loopback, until it is dropped.
pub struct Auth {
    /// Where.
    pub address: Ipv4Addr,
    /// The authority that vouches for it, PEM.
    pub authority: String,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Vec<String>>,
    approved: AtomicBool,
    locked: AtomicBool,
    over: AtomicBool,
}

/// One request.
struct Request {
    host: String,
    method: String,
    /// With its query.
    path: String,
    body: String,
}

impl Auth {
    /// Serves at port 443 of an address that no other test of this machine has.
    pub fn start() -> Self {
        let tls = Tls::new(&HOSTS);
        let (listener, address) = bind();
        let shared = Arc::<Shared>::default();
        let authority = tls.pem.clone();
        let server = {
            let shared = shared.clone();
            std::thread::spawn(move || {
                let accept = Arc::new(tls.server());
                for stream in listener.incoming().flatten() {
                    if shared.over.load(Ordering::SeqCst) {
                        return;
                    }
                    let (shared, accept) = (shared.clone(), accept.clone());
                    // It ends with its connection, of which each has one request.
                    std::thread::spawn(move || serve(accept(stream), &shared));
                }
            })
        };
        Self { address, authority, shared, server: Some(server) }
    }

    /// The user has typed the code at the address, and said yes.
    pub fn approve(&self) {
        self.shared.approved.store(true, Ordering::SeqCst);
    }

    /// From now on (or no longer) the account may log in, and do nothing.
    pub fn lock(&self, locked: bool) {
        self.shared.locked.store(locked, Ordering::SeqCst);
    }

    /// `HOST METHOD PATH` of every request so far, without queries.
    pub fn heard(&self) -> Vec<String> {
        self.shared.heard.lock().expect("whole").clone()
    }
}

impl Drop for Auth {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::SeqCst);
        // So that it looks.
        let _ = TcpStream::connect(SocketAddr::from((self.address, 443)));
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

fn bind() -> (TcpListener, Ipv4Addr) {
    let [.., high, low] = std::process::id().to_be_bytes();
    let addresses = (80..120).map(|third| Ipv4Addr::new(127, third, high, low.clamp(1, 254)));
    let bound = addresses.map(|address| (TcpListener::bind((address, 443)), address));
    bound.filter_map(|(listener, address)| Some((listener.ok()?, address))).next().expect("a free address")
}

fn serve(stream: impl Read + Write, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    // A client that does not believe the certificate, or only looks whether somebody is there.
    let Some(request) = read(&mut reader) else { return };
    let path = request.path.split('?').next().unwrap_or_default();
    let line = format!("{} {} {path}", request.host, request.method);
    shared.heard.lock().expect("whole").push(line);
    let (status, body) = answer(&request, path, shared);
    let body = if request.method == "HEAD" { String::new() } else { body.to_string() };
    let head = format!(
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let stream = reader.get_mut();
    // It may have gone.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body.as_bytes()))
        .and_then(|()| stream.flush());
}

fn read(reader: &mut BufReader<impl Read>) -> Option<Request> {
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace().map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let (mut host, mut length, mut chunked) = (String::new(), 0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "host" => value.trim().clone_into(&mut host),
            "content-length" => length = value.trim().parse().ok()?,
            "transfer-encoding" => chunked = true,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    while chunked {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).ok()?;
        body.extend(&chunk[..length]);
        chunked = length > 0;
    }
    Some(Request { host, method, path, body: String::from_utf8_lossy(&body).into_owned() })
}

fn answer(request: &Request, path: &str, shared: &Shared) -> (u16, Value) {
    let has = |text: &str| request.body.contains(text);
    match (request.host.as_str(), path) {
        ("auth.openai.com", "/api/accounts/deviceauth/usercode") => {
            (200, json!({ "device_auth_id": "1", "user_code": USER_CODE, "interval": "1" }))
        }
        ("auth.openai.com", "/api/accounts/deviceauth/token") => match shared.approved.load(Ordering::SeqCst)
        {
            false => (403, json!({ "error": "authorization_pending" })),
            true => {
                (200, json!({ "authorization_code": GOOD_CODE, "code_challenge": "c", "code_verifier": "v" }))
            }
        },
        // So that a login is refused that had a token.
        ("chatgpt.com", "/backend-api/wham/accounts/check") if shared.locked.load(Ordering::SeqCst) => {
            (403, json!({ "detail": "locked" }))
        }
        ("auth.openai.com", "/oauth/token")
            if has(GOOD_CODE) || has("token-exchange") || has("refresh_token") =>
        {
            (200, openai_tokens())
        }
        ("platform.claude.com", "/v1/oauth/token") if has(GOOD_CODE) || has("refresh_token\":\"sk") => {
            (200, claude_tokens())
        }
        ("oauth2.googleapis.com", "/token") if has(GOOD_CODE) => (200, google_tokens()),
        (_, "/oauth/token" | "/v1/oauth/token" | "/token") => {
            (400, json!({ "error": "invalid_grant", "error_description": "Malformed auth code." }))
        }
        ("platform.claude.com" | "api.anthropic.com", path) => claude(path),
        ("www.googleapis.com", "/oauth2/v2/userinfo") => {
            (200, json!({ "id": "1", "email": "nobody@example.org" }))
        }
        ("oauth2.googleapis.com", "/tokeninfo") => {
            (200, json!({ "aud": "x", "email": "nobody@example.org", "expires_in": 3600 }))
        }
        ("cloudcode-pa.googleapis.com", path) => google(path),
        ("chatgpt.com", "/backend-api/wham/accounts/check") => (200, chatgpt_accounts()),
        _ => (404, json!({ "error": { "message": "not here", "type": "not_found_error" } })),
    }
}

fn token(claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.{}",
        part(&json!({ "alg": "none", "typ": "JWT" })),
        part(claims),
        URL_SAFE_NO_PAD.encode("x")
    )
}

fn openai_tokens() -> Value {
    let claims = json!({
        "email": "nobody@example.org", "exp": 4_102_444_800u64, "iat": 1, "sub": "auth0|nobody", "iss": "https://auth.openai.com",
        "https://api.openai.com/auth": {
            "chatgpt_account_id": "account-1", "chatgpt_plan_type": "plus", "chatgpt_user_id": "user-1", "user_id": "user-1",
            "organizations": [{ "id": "org-1", "is_default": true, "role": "owner", "title": "Personal" }],
            "completed_platform_onboarding": true, "is_org_owner": true, "organization_id": "org-1", "project_id": "p-1",
        },
    });
    json!({ "id_token": token(&claims), "access_token": token(&claims), "refresh_token": "refresh-1", "expires_in": 3600, "token_type": "Bearer" })
}

fn chatgpt_accounts() -> Value {
    let account = json!({
        "id": "account-1", "account_user_id": "user-1__account-1", "name": null, "structure": "personal", "plan_type": "plus",
        "is_deactivated": false, "can_access_with_session": true, "sso_connection_name": null, "profile_picture_url": null,
        "is_fedramp_compliant_workspace": false, "workspace_backend_origin": "NO_CONSTRAINT", "account_routing_override": "NO_CONSTRAINT",
    });
    json!({ "accounts": [account], "account_ordering": ["account-1"], "default_account_id": "account-1" })
}

fn claude_tokens() -> Value {
    json!({
        "token_type": "Bearer", "access_token": "sk-ant-oat01-nobody", "refresh_token": "sk-ant-ort01-nobody", "expires_in": 28800,
        "scope": "org:create_api_key user:profile user:inference user:sessions:claude_code user:mcp_servers user:file_upload",
        "organization": { "uuid": "00000000-0000-4000-8000-000000000001", "name": "Nobody's" },
        "account": { "uuid": "00000000-0000-4000-8000-000000000002", "email_address": "nobody@example.org" },
    })
}

fn claude(path: &str) -> (u16, Value) {
    match path {
        "/" | "/api/hello" | "/v1/oauth/hello" => (200, json!({ "message": "hello" })),
        "/api/oauth/profile" => (
            200,
            json!({
                "account": { "uuid": "00000000-0000-4000-8000-000000000002", "email": "nobody@example.org", "display_name": "Nobody",
                    "full_name": "Nobody", "has_claude_max": false, "has_claude_pro": true, "created_at": "2026-01-01T00:00:00Z" },
                "organization": { "uuid": "00000000-0000-4000-8000-000000000001", "name": "Nobody's", "organization_type": "claude_pro",
                    "rate_limit_tier": "default_claude_ai", "has_extra_usage_enabled": false, "billing_type": "stripe_subscription" },
            }),
        ),
        "/api/oauth/claude_cli/roles" => (
            200,
            json!({ "organization_role": "admin", "workspace_role": null, "organization_name": "Nobody's" }),
        ),
        _ => (404, json!({ "type": "error", "error": { "type": "not_found_error", "message": "not here" } })),
    }
}

fn google_tokens() -> Value {
    json!({
        "access_token": "ya29.nobody", "refresh_token": "1//nobody", "expires_in": 3599, "token_type": "Bearer",
        "scope": "https://www.googleapis.com/auth/cloud-platform", "id_token": token(&json!({ "email": "nobody@example.org", "sub": "1" })),
    })
}

fn google(path: &str) -> (u16, Value) {
    let tier = json!({ "id": "free-tier", "name": "Gemini Code Assist for individuals", "isDefault": true, "userDefinedCloudaicompanionProject": false });
    match path {
        "/v1internal:loadCodeAssist" => (
            200,
            json!({ "currentTier": tier, "allowedTiers": [tier], "cloudaicompanionProject": "project-1" }),
        ),
        "/v1internal:onboardUser" => (
            200,
            json!({ "name": "o", "done": true, "response": { "cloudaicompanionProject": { "id": "project-1", "name": "project-1" } } }),
        ),
        "/v1internal:retrieveUserQuota" => (200, json!({ "buckets": [] })),
        "/v1internal:listExperiments" => (200, json!({ "experimentIds": [], "flags": [] })),
        _ => (404, json!({ "error": { "code": 404, "message": "not here", "status": "NOT_FOUND" } })),
    }
}
