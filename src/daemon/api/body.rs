//! What a request carries: its JSON and the ids in its path. What is no JSON is 400, what is no such request is 422.

use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::response::IntoResponse;
use bytes::Bytes;
use http::StatusCode;
use http::request::Parts;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::daemon::problem::Fault;
use crate::id::AgentId;

/// Of a complaint, so much is told.
const LONGEST_COMPLAINT: usize = 512;
/// So many bytes of a request are looked through for the field at fault,
const SMALL: usize = 64 * 1024;
/// with so many fields.
const FEW: usize = 64;

/// The JSON of a request.
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        parse(&read(request, state).await?).map(Body)
    }
}

/// The JSON of a request; nothing at all is `T::default()`.
pub struct Perhaps<T>(pub T);

impl<T: DeserializeOwned + Default, S: Send + Sync> FromRequest<S> for Perhaps<T> {
    type Rejection = Fault;

    async fn from_request(request: Request, state: &S) -> Result<Self, Fault> {
        let bytes = read(request, state).await?;
        if bytes.is_empty() { Ok(Self(T::default())) } else { parse(&bytes).map(Self) }
    }
}

async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Fault> {
    Bytes::from_request(request, state).await.map_err(|rejection| {
        let text = rejection.body_text();
        match rejection.into_response().status() {
            StatusCode::PAYLOAD_TOO_LARGE => Fault::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too-large",
                "the request is longer than is allowed here",
            ),
            _ => Fault::malformed(format_args!("the request could not be read: {text}")),
        }
    })
}

/// Reads JSON, and says what is wrong with it: where, and never what stands there, which may be a secret.
///
/// # Errors
/// 400 for what is no JSON, 422 with the field for what is no `T`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    // At once, without a tree of it in between: that takes many times as much memory as its text.
    serde_json::from_slice(bytes).map_err(|error| {
        let text = error.to_string();
        let detail = unspoken(text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what));
        if !error.is_data() {
            return Fault::malformed(format_args!("the request is not JSON: {text}"));
        }
        match named(&detail).or_else(|| field::<T>(bytes)) {
            Some(field) => Fault::unprocessable(field.clone(), format_args!("{field}: {detail}")),
            None => Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", detail),
        }
    })
}

/// Without the value that serde complains of: ``invalid type: string "hunter2", expected a map``.
fn unspoken(complaint: &str) -> String {
    let spoken = ["invalid type: ", "invalid value: "].iter().find_map(|begin| {
        let (kind, _) = complaint.strip_prefix(begin)?.split_once(['"', '`'])?;
        let (_, expected) = complaint.rsplit_once(", expected ")?;
        Some(format!("{begin}{}, expected {expected}", kind.trim_end()))
    });
    spoken.unwrap_or_else(|| complaint.chars().take(LONGEST_COMPLAINT).collect())
}

/// The field that a complaint names.
fn named(complaint: &str) -> Option<String> {
    let (_, rest) =
        ["unknown field `", "missing field `"].iter().find_map(|begin| complaint.split_once(begin))?;
    rest.split_once('`').map(|(name, _)| name.to_owned())
}

/// The field without which it is another complaint. Looked for only in what is small: it is read once for each field.
fn field<T: DeserializeOwned>(bytes: &[u8]) -> Option<String> {
    let small = bytes.len() <= SMALL;
    let value = small.then(|| serde_json::from_slice::<Value>(bytes).ok()).flatten()?;
    let object = value.as_object().filter(|object| object.len() <= FEW)?;
    let at_fault = object.keys().find(|key| {
        let mut without = object.clone();
        without.remove(*key);
        match serde_json::from_value::<T>(Value::Object(without)) {
            Ok(_) => true,
            Err(error) => error.to_string() == format!("missing field `{key}`"),
        }
    });
    at_fault.cloned()
}

/// The agent in a path. What can be no agent's id is 400.
pub struct Id(pub AgentId);

impl Id {
    /// As text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let path = Path::<Vec<(String, String)>>::from_request_parts(parts, state).await;
        let Path(parameters) = path.map_err(|e| Fault::malformed_field("id", e.body_text()))?;
        let id = parameters.into_iter().find(|(name, _)| name == "id").map(|(_, value)| value);
        id.unwrap_or_default().parse().map(Self).map_err(|e| Fault::malformed_field("id", e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::agent::{Send, Spawn};

    fn refused<T: DeserializeOwned>(text: &str) -> (u16, Option<String>) {
        let Err(fault) = parse::<T>(text.as_bytes()) else { panic!("{text} was accepted") };
        (fault.status().as_u16(), fault.problem().field)
    }

    #[test]
    fn what_is_no_json_is_malformed_and_what_is_no_request_names_its_field() {
        assert_eq!(refused::<Spawn>("{"), (400, None));
        assert_eq!(refused::<Spawn>("{}"), (422, Some("type".into())));
        assert_eq!(refused::<Spawn>(r#"{"type":"shell","oops":1}"#), (422, Some("oops".into())));
        assert_eq!(refused::<Spawn>(r#"{"type":"shell","env":[]}"#), (422, Some("env".into())));
        assert_eq!(refused::<Spawn>(r#"{"type":5}"#), (422, Some("type".into())));
        assert_eq!(refused::<Send>(r#"{"message":"x","timeoutMs":-1}"#), (422, Some("timeoutMs".into())));
        assert_eq!(refused::<Spawn>("[]").0, 422);
    }

    #[test]
    fn a_complaint_tells_nothing_of_the_value_that_it_is_about() {
        for text in [
            r#"{"type":"shell","env":"KEY=hunter2"}"#,
            r#"{"type":"shell","env":"hunter2\", expected `x"}"#,
            r#"{"type":"shell","env":{"KEY":20252}}"#,
        ] {
            let Err(fault) = parse::<Spawn>(text.as_bytes()) else { panic!("{text} was accepted") };
            let told = fault.detail();
            assert!(!told.contains("hunter2") && !told.contains("20252"), "{told}");
            assert!(told.contains("expected a "), "{told}");
        }
    }

    #[test]
    fn a_request_of_many_wrong_fields_costs_no_more_than_its_length() {
        let fields: Vec<String> = (0..200_000).map(|n| format!("\"f{n}\":0")).collect();
        let body = format!("{{\"type\":5,{}}}", fields.join(","));
        let begun = std::time::Instant::now();
        assert_eq!(refused::<Spawn>(&body).0, 422);
        let one = begun.elapsed();
        let begun = std::time::Instant::now();
        serde_json::from_str::<Value>(&body).expect("JSON");
        assert!(one < begun.elapsed() * 20, "{one:?}");
    }
}
