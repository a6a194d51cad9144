//! One request and its answer: credentials, time limits, errors.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use lepton_types::Name;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderValue, Method, Request, Response, StatusCode, header};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::{Agent, AsSendBody, Body};

use crate::discovery::{Discovery, Found};
use crate::error::{ApiError, ClientError, UnexpectedAnswer, name_failure};
use crate::retry::{Repeat, RetryPolicy, with_retries};
use crate::target::Target;

/// A list of the largest page stays far below this; an answer beyond it is a mistake.
const JSON_BYTES_MAX: u64 = 256 << 20;
/// An error is a sentence; of anything else a beginning is enough to tell what answered.
const ERROR_BYTES_MAX: u64 = 64 << 10;

/// How a client behaves, beyond whom it calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientOptions {
    /// How often and how fast calls are tried again.
    pub retry: RetryPolicy,
    /// How long a connection may take to come about.
    pub connect_timeout: Duration,
    /// How long an answer may take to begin.
    pub answer_timeout: Duration,
    /// Certificates to trust instead of the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// What calls itself: `lepton-cli/0.1.0`.
    pub user_agent: String,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            retry: RetryPolicy::interactive(),
            connect_timeout: Duration::from_secs(5),
            // Longer than the server's own limit on a prediction, which then says more.
            answer_timeout: Duration::from_secs(90),
            ca_file: None,
            user_agent: concat!("lepton-client/", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// Calls one server as one token. Clones share connections.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    url: String,
    token: Arc<str>,
    authorization: HeaderValue,
    project: Arc<OnceLock<Name>>,
    options: Arc<ClientOptions>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.url)
            .field("project", &self.project.get())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at `url`; without a `project` the token's own is meant.
    ///
    /// # Errors
    /// If the token cannot be sent.
    pub fn new(url: &str, token: &str, project: Option<Name>) -> Result<Self, ClientError> {
        Self::with_options(url, token, project, ClientOptions::default())
    }

    /// The same, behaving as told.
    ///
    /// # Errors
    /// If the token cannot be sent, or the certificates cannot be read.
    pub fn with_options(
        url: &str,
        token: &str,
        project: Option<Name>,
        options: ClientOptions,
    ) -> Result<Self, ClientError> {
        let bearer = format!("Bearer {token}");
        let mut authorization =
            HeaderValue::from_str(&bearer).map_err(|_| ClientError::BadUrl {
                url: url.to_owned(),
                cause: "the token has characters that cannot be sent".to_owned(),
            })?;
        authorization.set_sensitive(true);
        let known = OnceLock::new();
        if let Some(project) = project {
            let _ = known.set(project);
        }
        Ok(Self {
            agent: agent(url, &options)?,
            url: url.trim_end_matches('/').to_owned(),
            token: token.into(),
            authorization,
            project: Arc::new(known),
            options: Arc::new(options),
        })
    }

    /// Finds the server and the token as [`Discovery`] says.
    ///
    /// # Errors
    /// If nothing is known, or what is known cannot be used.
    pub fn discover(discovery: &Discovery, options: ClientOptions) -> Result<Self, ClientError> {
        let Found {
            url,
            token,
            project,
            ca_file,
        } = discovery.find()?;
        let options = ClientOptions {
            ca_file: ca_file.or(options.ca_file),
            ..options
        };
        Self::with_options(&url, &token, project, options)
    }

    /// The server's URL.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The token that it calls with.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// The same server and token, in another project.
    #[must_use]
    pub fn in_project(&self, project: Name) -> Self {
        let known = OnceLock::new();
        let _ = known.set(project);
        Self {
            project: Arc::new(known),
            ..self.clone()
        }
    }

    /// The same, trying again as told.
    #[must_use]
    pub fn with_retry(&self, retry: RetryPolicy) -> Self {
        let options = ClientOptions {
            retry,
            ..(*self.options).clone()
        };
        Self {
            options: Arc::new(options),
            ..self.clone()
        }
    }

    /// The project that is meant; asks the server for the token's own the first time, if none was named.
    ///
    /// # Errors
    /// If the server cannot be asked.
    pub fn project(&self) -> Result<&Name, ClientError> {
        if let Some(project) = self.project.get() {
            return Ok(project);
        }
        let own = self.whoami()?.project;
        Ok(self.project.get_or_init(|| own))
    }

    pub(crate) fn retry(&self) -> &RetryPolicy {
        &self.options.retry
    }

    /// `/api/v1/projects/{project}/…`
    pub(crate) fn in_this_project(&self, segments: &[&str]) -> Result<Target, ClientError> {
        let mut path = vec!["api", "v1", "projects", self.project()?.as_str()];
        path.extend_from_slice(segments);
        Ok(Target::of(&path))
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, target: &Target) -> Result<T, ClientError> {
        self.repeated(Repeat::Harmless, || {
            self.send(Method::GET, target, ())?.json()
        })
    }

    pub(crate) fn delete<T: DeserializeOwned>(&self, target: &Target) -> Result<T, ClientError> {
        self.repeated(Repeat::OnlyUnsent, || {
            self.send(Method::DELETE, target, ())?.json()
        })
    }

    /// Sends what answers nothing.
    pub(crate) fn tell(
        &self,
        method: &Method,
        target: &Target,
        body: &impl Serialize,
        repeat: Repeat,
    ) -> Result<(), ClientError> {
        let body = json_bytes(body);
        self.repeated(repeat, || {
            self.send(method.clone(), target, body.as_slice()).map(drop)
        })
    }

    pub(crate) fn ask<T: DeserializeOwned>(
        &self,
        method: &Method,
        target: &Target,
        body: &impl Serialize,
        repeat: Repeat,
    ) -> Result<T, ClientError> {
        let body = json_bytes(body);
        self.repeated(repeat, || {
            self.send(method.clone(), target, body.as_slice())?.json()
        })
    }

    pub(crate) fn repeated<T>(
        &self,
        repeat: Repeat,
        call: impl FnMut() -> Result<T, ClientError>,
    ) -> Result<T, ClientError> {
        with_retries(&self.options.retry, repeat, call)
    }

    /// Sends once; anything but success is an error.
    pub(crate) fn send(
        &self,
        method: Method,
        target: &Target,
        body: impl AsSendBody,
    ) -> Result<Answer, ClientError> {
        let request = self.request(method, target)?;
        self.run(request, body)
    }

    /// A request with nothing but where to and who from.
    pub(crate) fn request(
        &self,
        method: Method,
        target: &Target,
    ) -> Result<Request<()>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{}", self.url, target.as_str()))
            .body(())
            .map_err(|error| ClientError::BadUrl {
                url: self.url.clone(),
                cause: error.to_string(),
            })?;
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        Ok(request)
    }

    /// Sends once what was prepared; anything but success is an error.
    pub(crate) fn run(
        &self,
        request: Request<()>,
        body: impl AsSendBody,
    ) -> Result<Answer, ClientError> {
        let (mut parts, ()) = request.into_parts();
        let timeout = parts
            .extensions
            .remove::<AnswerTimeout>()
            .map_or(self.options.answer_timeout, |timeout| timeout.0);
        let request = Request::from_parts(parts, body);
        let request = self
            .agent
            .configure_request(request)
            .timeout_recv_response(Some(timeout))
            .build();
        let url = request.uri().to_string();
        let response = self
            .agent
            .run(request)
            .map_err(|error| name_failure(&self.url, error))?;
        if response.status().is_success() {
            return Ok(Answer {
                response,
                server: self.url.clone(),
                url,
            });
        }
        Err(refusal(&url, response))
    }
}

/// An answer that is a success.
pub(crate) struct Answer {
    /// What came.
    pub(crate) response: Response<Body>,
    server: String,
    url: String,
}

/// How long this one request may take to be answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AnswerTimeout(pub(crate) Duration);

impl Answer {
    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Reads the body as JSON of the form that is expected.
    pub(crate) fn json<T: DeserializeOwned>(mut self) -> Result<T, ClientError> {
        let body = self.bytes(JSON_BYTES_MAX)?;
        serde_json::from_slice(&body).map_err(|error| {
            unexpected(&self.url, self.response.status(), &body, &error.to_string())
        })
    }

    /// Reads the whole body, which is at most `max` bytes.
    pub(crate) fn bytes(&mut self, max: u64) -> Result<Vec<u8>, ClientError> {
        self.response
            .body_mut()
            .with_config()
            .limit(max)
            .read_to_vec()
            .map_err(|error| name_failure(&self.server, error))
    }
}

fn json_bytes(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("invariant: wire types have string keys")
}

/// What a server that did not succeed wanted to say.
fn refusal(url: &str, mut response: Response<Body>) -> ClientError {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    let mut body = Vec::new();
    // A connection that breaks off in an error's text leaves what there is of it.
    let _ = response
        .body_mut()
        .as_reader()
        .take(ERROR_BYTES_MAX)
        .read_to_end(&mut body);
    match ApiError::parse(status.as_u16(), &body, retry_after) {
        Some(error) => ClientError::Api(Box::new(error)),
        None => unexpected(url, status, &body, "no error of Lepton's"),
    }
}

fn unexpected(url: &str, status: StatusCode, body: &[u8], what: &str) -> ClientError {
    let beginning: String = String::from_utf8_lossy(&body[..body.len().min(400)])
        .chars()
        .take(120)
        .flat_map(char::escape_debug)
        .collect();
    let cause = if beginning.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: `{beginning}`")
    };
    ClientError::UnexpectedAnswer(Box::new(UnexpectedAnswer {
        url: url.to_owned(),
        status: status.as_u16(),
        cause,
    }))
}

fn agent(url: &str, options: &ClientOptions) -> Result<Agent, ClientError> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        // A redirect would carry the token to where nobody sent it.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .user_agent(options.user_agent.as_str())
        .timeout_connect(Some(options.connect_timeout))
        .timeout_resolve(Some(options.connect_timeout));
    if is_loopback(url) {
        config = config.proxy(None);
    }
    if let Some(path) = &options.ca_file {
        let roots = RootCerts::new_with_certs(&certificates(path)?);
        config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
    }
    Ok(config.build().new_agent())
}

/// A proxy of the environment cannot reach this machine's own loopback.
fn is_loopback(url: &str) -> bool {
    let host = url
        .split_once("://")
        .map_or(url, |(_, rest)| rest)
        .split('/')
        .next()
        .unwrap_or_default();
    host.starts_with("127.") || host.starts_with("localhost") || host.starts_with("[::1]")
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, ClientError> {
    let pem = std::fs::read(path).map_err(|source| ClientError::File {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let found: Vec<_> = ureq::tls::parse_pem(&pem)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(ClientError::Tls {
            url: path.display().to_string(),
            cause: "no certificate is in the file".to_owned(),
        });
    }
    Ok(found)
}
