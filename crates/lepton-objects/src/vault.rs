//! Data keys wrapped by a key service: the Transit engine of Vault or OpenBao.
//!
//! Owns: the two calls, `encrypt` and `decrypt`, that bind what they wrap to its project and key.
//! Must not know: which data keys there are. The master key never leaves the service.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::backend::http_client;
use crate::keys::{KeyWrapper, WrapError, WrapPurpose, bound_to};

/// A key service that does not answer within this is taken for gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Answers are some hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Labels stand beside every wrapped key.
const LABEL_MAX: usize = 64;

/// A key of a Transit engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultKey {
    /// `https://vault:8200`.
    pub address: String,
    /// Where the engine is mounted: `transit`.
    pub mount: String,
    /// The key's name; of type `aes256-gcm96`, or another that takes associated data.
    pub key: String,
    /// A file with the token, read at each call, as agents renew it.
    pub token_file: PathBuf,
}

/// Wraps data keys with a key that stays in the service.
pub struct VaultWrapper {
    key: VaultKey,
}

impl fmt::Debug for VaultWrapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.label())
    }
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    ciphertext: String,
    #[serde(default)]
    plaintext: Zeroizing<String>,
}

#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    errors: Vec<String>,
}

fn service(reason: impl fmt::Display) -> WrapError {
    WrapError::Service {
        reason: reason.to_string(),
    }
}

impl VaultWrapper {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(key: VaultKey) -> Self {
        Self { key }
    }

    /// One call; the token and what is wrapped are never part of an error.
    fn call(&self, what: &str, body: &serde_json::Value) -> Result<Data, WrapError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(service)?;
        let VaultKey {
            address,
            mount,
            key,
            token_file,
        } = &self.key;
        let token = std::fs::read_to_string(token_file).map(Zeroizing::new);
        let token = token
            .map_err(|error| service(format!("cannot read `{}`: {error}", token_file.display())))?;
        let address = address.trim_end_matches('/');
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{address}/v1/{mount}/{what}/{key}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("X-Vault-Request", "true")
            .header("X-Vault-Token", token.trim())
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|_| service("the address or the token cannot be sent"))?;
        // Wrapping is done on threads that may block, where this is allowed.
        runtime.block_on(async {
            tokio::time::timeout(ANSWER_TIMEOUT, ask(request, address))
                .await
                .unwrap_or_else(|_| Err(service(format!("`{address}` does not answer"))))
        })
    }
}

async fn ask(request: Request<Full<Bytes>>, address: &str) -> Result<Data, WrapError> {
    let client = http_client(address.starts_with("http://")).map_err(service)?;
    let answer = client.request(request).await;
    let answer = answer.map_err(|_| service(format!("`{address}` cannot be reached")))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
    let body = body.await.map_err(service)?.to_bytes();
    if status.is_success() {
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|_| service("the answer is not that of a Transit engine"))?;
        return Ok(answer.data);
    }
    let refusal: Refusal = serde_json::from_slice(&body).unwrap_or_default();
    let said = refusal.errors.join("; ");
    // The service has no other way to say that it is not its ciphertext.
    if status == http::StatusCode::BAD_REQUEST && said.contains("authentication failed") {
        return Err(WrapError::Refused);
    }
    Err(service(format!("`{address}` answered {status}: {said}")))
}

impl KeyWrapper for VaultWrapper {
    fn label(&self) -> String {
        let label = format!("vault:{}/{}", self.key.mount, self.key.key);
        label.chars().take(LABEL_MAX).collect()
    }

    fn wrap(&self, purpose: &WrapPurpose<'_>, key: &[u8; 32]) -> Result<Vec<u8>, WrapError> {
        let plaintext = Zeroizing::new(STANDARD.encode(key));
        let data = self.call(
            "encrypt",
            &serde_json::json!({
                "plaintext": plaintext.as_str(),
                "associated_data": STANDARD.encode(bound_to(purpose)),
            }),
        )?;
        if data.ciphertext.is_empty() {
            return Err(service("the answer has no ciphertext"));
        }
        Ok(data.ciphertext.into_bytes())
    }

    fn unwrap(
        &self,
        purpose: &WrapPurpose<'_>,
        wrapped: &[u8],
    ) -> Result<Zeroizing<[u8; 32]>, WrapError> {
        let ciphertext = std::str::from_utf8(wrapped).map_err(|_| WrapError::Refused)?;
        let data = self.call(
            "decrypt",
            &serde_json::json!({
                "ciphertext": ciphertext,
                "associated_data": STANDARD.encode(bound_to(purpose)),
            }),
        )?;
        let key = STANDARD
            .decode(data.plaintext.as_bytes())
            .map(Zeroizing::new);
        let key = key.map_err(|_| WrapError::Refused)?;
        let key = <[u8; 32]>::try_from(key.as_slice()).map_err(|_| WrapError::Refused)?;
        Ok(Zeroizing::new(key))
    }
}
