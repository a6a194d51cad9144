//! Every dependency has a permissive licence, and none is on the list of those we avoid.

use anyhow::{Context, Result};
use serde_json::Value;

const PERMISSIVE: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Zlib",
];

/// Not as spelt by SPDX, looked up by hand: the licence file says so.
const LOOKED_UP: [(&str, &str); 0] = [];

const AVOIDED: [(&str, &str); 3] = [
    (
        "openssl-sys",
        "needs a C library and its headers: rustls is what we use",
    ),
    ("native-tls", "brings openssl: rustls is what we use"),
    ("serde_yaml", "is not kept up any more"),
];

pub(crate) fn check(metadata: &Value) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for package in metadata["packages"]
        .as_array()
        .context("metadata without packages")?
    {
        let name = package["name"].as_str().unwrap_or_default();
        if let Some((_, why)) = AVOIDED.iter().find(|(avoided, _)| *avoided == name) {
            findings.push(format!("dependency `{name}` is avoided: it {why}"));
        }
        let known = LOOKED_UP
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, licence)| *licence);
        let licence = known
            .or(package["license"].as_str())
            .unwrap_or("none given");
        if !is_permissive(licence) {
            findings.push(format!("dependency `{name}` has licence `{licence}`"));
        }
    }
    Ok(findings)
}

/// Whether one of the alternatives of an SPDX expression is all permissive.
fn is_permissive(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    // `A AND B OR C` binds AND first; with the brackets gone this is stricter, never laxer, for
    // the `X AND (A OR B)` that occurs: every part is looked at on its own.
    plain.split(" OR ").any(|alternative| {
        alternative
            .split(" AND ")
            .all(|licence| PERMISSIVE.contains(&licence.trim()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alternatives_and_sums_are_told_apart() {
        assert!(is_permissive("MIT OR GPL-3.0"));
        assert!(is_permissive("MIT/Apache-2.0"));
        assert!(is_permissive("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!is_permissive("MIT AND GPL-3.0"));
        assert!(!is_permissive("MPL-2.0"));
    }
}
