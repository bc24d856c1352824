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

/// Reads JSON, and says what is wrong with it.
///
/// # Errors
/// 400 for what is no JSON, 422 with the field for what is no `T`.
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Fault> {
    let value: Value = serde_json::from_slice(bytes)
        .map_err(|error| Fault::malformed(format_args!("the request is not JSON: {error}")))?;
    serde_json::from_value(value.clone()).map_err(|error| {
        let detail = error.to_string();
        match field::<T>(&value, &detail) {
            Some(field) => Fault::unprocessable(field.clone(), format_args!("{field}: {detail}")),
            None => Fault::new(StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", detail),
        }
    })
}

/// Which field the complaint is about: the one that it names, or the one without which it is another complaint.
fn field<T: DeserializeOwned>(value: &Value, complaint: &str) -> Option<String> {
    let named = ["unknown field `", "missing field `"].iter().find_map(|begin| {
        let (_, rest) = complaint.split_once(begin)?;
        rest.split_once('`').map(|(name, _)| name.to_owned())
    });
    let object = value.as_object()?;
    let at_fault = object.keys().find(|key| {
        let mut without = object.clone();
        without.remove(*key);
        match serde_json::from_value::<T>(Value::Object(without)) {
            Ok(_) => true,
            Err(error) => error.to_string() == format!("missing field `{key}`"),
        }
    });
    named.or_else(|| at_fault.cloned())
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
}
