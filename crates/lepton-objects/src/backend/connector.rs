//! HTTP for the clients of object services, over the libraries that the rest of Lepton uses.
//!
//! Owns: connecting, TLS with the machine's certificates, and the bound on how long an answer may
//! take to begin. Must not know: what is asked.

use std::io;
use std::time::Duration;

use http_body::Body;
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as TcpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientConfigKey, ClientOptions};

/// A service that does not take a connection within this is taken for gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest part is 64 MiB: at 1 MiB/s it is sent by then.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(90);
/// Most services close idle connections after a minute or more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

/// Makes clients for object services.
#[derive(Debug, Clone, Copy)]
pub(super) struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let client = http_client(allows_http.as_deref() == Some("true"));
        let client = client.map_err(|source| object_store::Error::Generic {
            store: "TLS",
            source: source.into(),
        })?;
        Ok(HttpClient::new(Service(client)))
    }
}

/// A client that trusts whom the machine trusts.
pub(crate) fn http_client<B>(
    allows_http: bool,
) -> io::Result<Client<HttpsConnector<TcpConnector>, B>>
where
    B: Body + Send,
    B::Data: Send,
{
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())?;
    let tls = if allows_http {
        tls.https_or_http()
    } else {
        tls.https_only()
    };
    let mut tcp = TcpConnector::new();
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build(tls.enable_http1().wrap_connector(tcp)))
}

#[derive(Debug)]
struct Service(Client<HttpsConnector<TcpConnector>, HttpRequestBody>);

#[derive(Debug, thiserror::Error)]
#[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
struct AnswerTimeout;

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.0.request(request)).await;
        let answer = answer.map_err(|_| HttpError::new(HttpErrorKind::Timeout, AnswerTimeout))?;
        let answer = answer.map_err(|error| {
            let kind = if error.is_connect() {
                HttpErrorKind::Connect
            } else {
                HttpErrorKind::Interrupted
            };
            HttpError::new(kind, error)
        })?;
        let (parts, body) = answer.into_parts();
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}
