//! Which headers cross the gateway.
//!
//! Those of one connection stay on it (RFC 9110 §7.6.1). The caller's credentials never
//! reach a replica, and nobody but the gateway sets what is Lepton's own.

use http::header::{self, HeaderMap, HeaderName};

const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The caller's headers that a replica sees.
pub(super) fn for_replica(headers: &HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(headers);
    for credential in [header::AUTHORIZATION, header::COOKIE] {
        kept.remove(credential);
    }
    // The body is whole by now: its length is set anew, and nothing is left to expect.
    for stale in [header::HOST, header::CONTENT_LENGTH, header::EXPECT] {
        kept.remove(stale);
    }
    kept
}

/// The replica's headers that the caller sees.
pub(super) fn for_caller(headers: &HeaderMap) -> HeaderMap {
    let mut kept = end_to_end(headers);
    kept.remove(header::SET_COOKIE);
    kept
}

fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    headers
        .iter()
        .filter(|(name, _)| {
            !HOP_BY_HOP.contains(name)
                && !named.contains(name)
                && !name.as_str().starts_with("x-lepton-")
        })
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_hops_and_our_own_headers_stay_behind() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("cookie", "a=b"),
            ("connection", "close, X-Mine"),
            ("x-mine", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("x-lepton-replica-token", "forged"),
            ("host", "example"),
            ("content-length", "5"),
            ("content-type", "application/json"),
            ("x-request-id", "7"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                value.parse().expect("a valid value"),
            );
        }
        let kept = for_replica(&headers);
        let mut names: Vec<&str> = kept.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "x-request-id"]);
        assert!(for_caller(&headers).contains_key("content-length"));
    }
}
