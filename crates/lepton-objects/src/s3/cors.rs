//! Cross-origin requests: the rules of a bucket, and the answers to browsers.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use s3s::dto;
use s3s::{S3Result, s3_error};

use super::patterns::is_like;

/// Rules of one bucket, as in S3.
const RULES_MAX: usize = 100;

/// What a browser asks before or with a request.
pub(super) struct Origin<'a> {
    pub(super) origin: &'a str,
    pub(super) method: &'a str,
    /// The headers that a preflight asks for.
    pub(super) headers: Vec<String>,
}

/// Refuses rules that make no sense.
pub(super) fn check(wanted: &dto::CORSConfiguration) -> S3Result<()> {
    if wanted.cors_rules.is_empty() || wanted.cors_rules.len() > RULES_MAX {
        return Err(s3_error!(
            MalformedXML,
            "The number of CORS rules must be between 1 and {RULES_MAX}"
        ));
    }
    for rule in &wanted.cors_rules {
        let methods = ["GET", "PUT", "HEAD", "POST", "DELETE"];
        if let Some(odd) = rule
            .allowed_methods
            .iter()
            .find(|method| !methods.contains(&method.as_str()))
        {
            return Err(s3_error!(
                InvalidRequest,
                "Found unsupported HTTP method in CORS config. Unsupported method is {odd}"
            ));
        }
        let patterns = rule
            .allowed_origins
            .iter()
            .chain(rule.allowed_headers.iter().flatten());
        if patterns
            .into_iter()
            .any(|pattern| pattern.matches('*').count() > 1)
        {
            return Err(s3_error!(
                InvalidRequest,
                "A pattern can not have more than one wildcard."
            ));
        }
    }
    Ok(())
}

/// The rule that allows what a browser asks.
pub(super) fn rule_for<'a>(
    rules: &'a [dto::CORSRule],
    asked: &Origin<'_>,
) -> Option<&'a dto::CORSRule> {
    rules.iter().find(|rule| {
        let is = |pattern: &String, text: &str| {
            is_like(&pattern.to_ascii_lowercase(), &text.to_ascii_lowercase())
        };
        let headers = rule.allowed_headers.as_deref().unwrap_or_default();
        rule.allowed_origins
            .iter()
            .any(|pattern| is_like(pattern, asked.origin))
            && rule
                .allowed_methods
                .iter()
                .any(|method| method == asked.method)
            && asked
                .headers
                .iter()
                .all(|header| headers.iter().any(|pattern| is(pattern, header)))
    })
}

/// What is said to a browser whose request is allowed.
pub(super) fn allow(rule: &dto::CORSRule, asked: &Origin<'_>, answer: &mut HeaderMap) {
    let any = rule.allowed_origins.iter().any(|pattern| pattern == "*");
    let mut set = |name: HeaderName, text: String| {
        if let Ok(value) = HeaderValue::from_str(&text) {
            answer.insert(name, value);
        }
    };
    let origin = if any { "*" } else { asked.origin };
    set(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.to_owned());
    if !any {
        set(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, "true".to_owned());
    }
    set(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        rule.allowed_methods.join(", "),
    );
    if !asked.headers.is_empty() {
        set(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            asked.headers.join(", "),
        );
    }
    if let Some(exposed) = &rule.expose_headers {
        set(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.join(", "));
    }
    if let Some(seconds) = rule.max_age_seconds {
        set(header::ACCESS_CONTROL_MAX_AGE, seconds.to_string());
    }
    set(
        header::VARY,
        "Origin, Access-Control-Request-Headers, Access-Control-Request-Method".to_owned(),
    );
}

/// What a browser asks, if a request comes from one.
pub(super) fn origin_of<'a>(method: &'a Method, headers: &'a HeaderMap) -> Option<Origin<'a>> {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let origin = text(header::ORIGIN)?;
    if method != Method::OPTIONS {
        return Some(Origin {
            origin,
            method: method.as_str(),
            headers: Vec::new(),
        });
    }
    let wanted = text(header::ACCESS_CONTROL_REQUEST_HEADERS).unwrap_or_default();
    Some(Origin {
        origin,
        method: text(header::ACCESS_CONTROL_REQUEST_METHOD)?,
        headers: wanted
            .split(',')
            .map(|one| one.trim().to_owned())
            .filter(|one| !one.is_empty())
            .collect(),
    })
}

/// The status of a preflight that is not allowed, and of one that is none.
pub(super) const REFUSED: StatusCode = StatusCode::FORBIDDEN;
pub(super) const NO_PREFLIGHT: StatusCode = StatusCode::BAD_REQUEST;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_allows_origins_methods_and_headers_of_its_patterns() {
        let rules = [dto::CORSRule {
            allowed_origins: vec!["https://*.example".to_owned()],
            allowed_methods: vec!["PUT".to_owned()],
            allowed_headers: Some(vec!["X-Amz-*".to_owned()]),
            ..dto::CORSRule::default()
        }];
        let asks = |origin, method, header: &str| {
            let asked = Origin {
                origin,
                method,
                headers: vec![header.to_owned()],
            };
            rule_for(&rules, &asked).is_some()
        };
        assert!(asks("https://a.example", "PUT", "x-amz-meta-a"));
        assert!(!asks("http://a.example", "PUT", "x-amz-meta-a"));
        assert!(!asks("https://a.example", "GET", "x-amz-meta-a"));
        assert!(!asks("https://a.example", "PUT", "authorization"));
    }
}
