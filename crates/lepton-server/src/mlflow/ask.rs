//! Requests of MLflow's clients: who asks, in which workspace, and for what.
//!
//! A GET carries its fields in the query, everything else as JSON. Numbers may come as text, and
//! what is not known is passed over, as protobuf's JSON has it. Lists and numbers are read in one pass:
//! a batch has a thousand of them.

use std::fmt;
use std::marker::PhantomData;

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::Method;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use lepton_access::Access;
use lepton_types::resources::{Kind, Meta};
use lepton_types::{Id, Name};
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeOwned, Error as Refusal, IntoDeserializer as _, MapAccess, SeqAccess, Unexpected,
    Visitor as Reads,
};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::error::{MlflowError, shown};
use crate::app::App;
use crate::auth::Caller;
use crate::extract::{JSON_BYTES_MAX, read_body};

/// The header that names the workspace, which is Lepton's project.
const WORKSPACE: &str = "x-mlflow-workspace";

/// Somebody in a project.
pub(super) struct Visitor {
    pub(super) app: App,
    pub(super) caller: Caller,
    pub(super) project: Name,
}

impl Visitor {
    /// Refuses unless the caller may do `access` to `kind`s of the project.
    pub(super) fn may(&self, access: Access, kind: Kind) -> Result<(), MlflowError> {
        Ok(self.caller.may(access, kind, &self.project)?)
    }

    /// Refuses unless the caller may do `access` to this one.
    pub(super) fn may_touch(&self, access: Access, kind: Kind, id: Id) -> Result<(), MlflowError> {
        Ok(self.caller.may_touch(access, kind, &self.project, id)?)
    }
}

impl Visitor {
    /// Refuses unless the caller may change this, which is there already.
    pub(super) fn may_change(&self, kind: Kind, resource: &Meta) -> Result<(), MlflowError> {
        Ok(self.caller.may_change(kind, &self.project, resource)?)
    }
}

impl FromRequestParts<App> for Visitor {
    type Rejection = MlflowError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, MlflowError> {
        let caller = Caller::identify(app, &parts.headers).await?;
        let home = caller.0.home();
        let project = match parts.headers.get(WORKSPACE) {
            None => home,
            Some(named) => {
                let named = named.to_str().unwrap_or_default();
                let project: Name = named
                    .parse()
                    .map_err(|error| MlflowError::invalid(format!("workspace: {error}")))?;
                if project != home {
                    // Whoever may not look in there does not learn whether it exists.
                    caller.may(Access::Read, Kind::Project, &project)?;
                    crate::http::require_project(app, &project).await?;
                }
                project
            }
        };
        Ok(Self {
            app: app.clone(),
            caller,
            project,
        })
    }
}

/// The fields of a request.
pub(super) struct Ask<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<App> for Ask<T> {
    type Rejection = MlflowError;

    async fn from_request(request: Request, _app: &App) -> Result<Self, MlflowError> {
        let (parts, body) = request.into_parts();
        let misfit =
            |error: serde_json::Error| MlflowError::invalid(format!("Invalid request: {error}"));
        if parts.method == Method::GET {
            let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
                .map_err(|refused| MlflowError::invalid(refused.body_text()))?;
            return serde_json::from_value(fields_of(pairs))
                .map(Self)
                .map_err(misfit);
        }
        let bytes = read_body(&parts.headers, body, JSON_BYTES_MAX).await?;
        if bytes.is_empty() {
            return serde_json::from_str("{}").map(Self).map_err(misfit);
        }
        // What a page of another site can send unasked is of other types.
        let kind = parts
            .headers
            .get(CONTENT_TYPE)
            .and_then(|kind| kind.to_str().ok());
        let kind = kind
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default();
        if !kind.trim().eq_ignore_ascii_case("application/json") {
            return Err(MlflowError::invalid(
                "Bad Request. Content-Type must be one of ['application/json'].",
            ));
        }
        serde_json::from_slice(&bytes).map(Self).map_err(misfit)
    }
}

/// The fields of a query; one that comes more than once is a list.
fn fields_of(pairs: Vec<(String, String)>) -> Value {
    let mut fields = Map::new();
    for (name, value) in pairs {
        let value = Value::String(value);
        match fields.get_mut(&name) {
            None => {
                fields.insert(name, value);
            }
            Some(Value::Array(list)) => list.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    Value::Object(fields)
}

/// A whole number, written as one or as text.
pub(super) fn int<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    deserializer.deserialize_any(Whole)
}

struct Whole;

impl<'de> Reads<'de> for Whole {
    type Value = Option<i64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a whole number")
    }

    fn visit_unit<E: Refusal>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Refusal>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Refusal>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_u64<E: Refusal>(self, number: u64) -> Result<Self::Value, E> {
        let whole = i64::try_from(number).ok();
        let refused = || E::invalid_value(Unexpected::Unsigned(number), &self);
        whole.map(Some).ok_or_else(refused)
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "checked to be whole and small"
    )]
    fn visit_f64<E: Refusal>(self, number: f64) -> Result<Self::Value, E> {
        match number.fract() == 0.0 && number.abs() < 9e15 {
            true => Ok(Some(number as i64)),
            false => Err(E::invalid_value(Unexpected::Float(number), &self)),
        }
    }

    fn visit_str<E: Refusal>(self, text: &str) -> Result<Self::Value, E> {
        let refused = |_| E::invalid_value(Unexpected::Str(&shown(text)), &self);
        text.trim().parse().map(Some).map_err(refused)
    }
}

/// A float, written as a number or as text; `"NaN"`, `"Infinity"` and `"-Infinity"` among them.
pub(super) fn float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    deserializer.deserialize_any(Real)
}

struct Real;

impl<'de> Reads<'de> for Real {
    type Value = Option<f64>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a number")
    }

    fn visit_unit<E: Refusal>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Refusal>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E: Refusal>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(number as f64))
    }

    fn visit_u64<E: Refusal>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(number as f64))
    }

    fn visit_f64<E: Refusal>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(number))
    }

    fn visit_str<E: Refusal>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "NaN" => Ok(Some(f64::NAN)),
            "Infinity" => Ok(Some(f64::INFINITY)),
            "-Infinity" => Ok(Some(f64::NEG_INFINITY)),
            other => {
                let refused = |_| E::invalid_value(Unexpected::Str(&shown(other)), &self);
                other.parse().map(Some).map_err(refused)
            }
        }
    }
}

/// A truth, written as one or as text.
pub(super) fn truth<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Truth(bool),
        Text(String),
    }
    match Option::<Written>::deserialize(deserializer)? {
        None => Ok(None),
        Some(Written::Truth(truth)) => Ok(Some(truth)),
        Some(Written::Text(text)) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
        Some(Written::Text(text)) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
        Some(Written::Text(_)) => Err(serde::de::Error::custom("true or false is expected")),
    }
}

/// A word of an enumeration, written as such or as its number.
pub(super) fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Number(i64),
        Word(String),
    }
    Ok(match Option::<Written>::deserialize(deserializer)? {
        None => None,
        Some(Written::Number(number)) => Some(number.to_string()),
        Some(Written::Word(word)) => Some(word),
    })
}

/// A list; one value alone is a list of one, and nothing is none.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_any(Many(PhantomData))
}

struct Many<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Reads<'de> for Many<T> {
    type Value = Vec<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_unit<E: Refusal>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_none<E: Refusal>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
        T::deserialize(MapAccessDeserializer::new(fields)).map(|one| vec![one])
    }

    fn visit_str<E: Refusal>(self, text: &str) -> Result<Self::Value, E> {
        T::deserialize(text.into_deserializer()).map(|one| vec![one])
    }

    fn visit_i64<E: Refusal>(self, number: i64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(|one| vec![one])
    }

    fn visit_u64<E: Refusal>(self, number: u64) -> Result<Self::Value, E> {
        T::deserialize(number.into_deserializer()).map(|one| vec![one])
    }
}

/// A key with a value: a tag, a parameter.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(super) struct Pair {
    pub(super) key: Option<String>,
    pub(super) value: Option<String>,
}

/// A text that cannot be left out.
pub(super) fn need<'a>(text: &'a Option<String>, what: &str) -> Result<&'a str, MlflowError> {
    match text.as_deref() {
        Some(text) if !text.is_empty() => Ok(text),
        Some(_) | None => Err(MlflowError::required(what)),
    }
}

/// A text that may be left out; an empty one is none.
pub(super) fn given(text: Option<&String>) -> Option<&str> {
    text.map(String::as_str).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Sample {
        #[serde(deserialize_with = "int")]
        step: Option<i64>,
        #[serde(deserialize_with = "float")]
        value: Option<f64>,
        #[serde(deserialize_with = "list")]
        ids: Vec<String>,
        #[serde(deserialize_with = "truth")]
        all: Option<bool>,
    }

    #[test]
    fn numbers_come_as_numbers_or_as_text() {
        let sample: Sample =
            serde_json::from_str(r#"{"step":"12","value":"NaN","ids":null,"more":{}}"#).unwrap();
        assert_eq!(sample.step, Some(12));
        assert!(sample.value.is_some_and(f64::is_nan));
        assert!(sample.ids.is_empty());
        assert!(serde_json::from_str::<Sample>(r#"{"step":1.5}"#).is_err());
        assert!(serde_json::from_str::<Sample>(r#"{"value":"x"}"#).is_err());
    }

    #[test]
    fn a_field_that_comes_twice_in_a_query_is_a_list() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let fields = fields_of(vec![
            pair("ids", "a"),
            pair("ids", "b"),
            pair("all", "True"),
        ]);
        let sample: Sample = serde_json::from_value(fields).unwrap();
        assert_eq!(sample.ids, ["a", "b"]);
        assert_eq!(sample.all, Some(true));
        let one: Sample = serde_json::from_value(fields_of(vec![pair("ids", "a")])).unwrap();
        assert_eq!(one.ids, ["a"]);
    }
}
