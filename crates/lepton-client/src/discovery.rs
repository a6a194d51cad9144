//! Where the server is and who is calling: from the environment, else from the
//! files that a server on this machine writes when it starts.
//!
//! A token found in a file is only ever sent to the URL that stands beside it.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use lepton_types::{Name, ParseNameError};
use serde::Deserialize;

/// Where `lepton up` listens unless told otherwise.
pub const DEFAULT_URL: &str = "http://127.0.0.1:5110";

/// What is known before looking, usually from the environment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Discovery {
    /// `LEPTON_URL`.
    pub url: Option<String>,
    /// `LEPTON_TOKEN`.
    pub token: Option<String>,
    /// `LEPTON_PROJECT`.
    pub project: Option<String>,
    /// `LEPTON_CA_FILE`: certificates to trust instead of the well-known ones.
    pub ca_file: Option<PathBuf>,
    /// `LEPTON_DATA_DIR`: the data directory whose server is meant.
    pub data_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, else `HOME/.config`.
    pub config_home: Option<PathBuf>,
}

/// Where the server is and who is calling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The server's URL, without a `/` at its end.
    pub url: String,
    /// The token to call with.
    pub token: String,
    /// The project that is meant; the token's own where absent.
    pub project: Option<Name>,
    /// Certificates to trust instead of the well-known ones.
    pub ca_file: Option<PathBuf>,
}

/// What a server writes for the clients on its machine.
#[derive(Clone, PartialEq, Eq, Deserialize)]
pub struct CredentialFile {
    /// Where it listens.
    pub url: String,
    /// The owner's token.
    pub token: String,
    /// Its process.
    #[serde(default)]
    pub pid: Option<u32>,
    /// Its data directory.
    #[serde(default)]
    pub data_dir: Option<PathBuf>,
}

impl std::fmt::Debug for CredentialFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialFile")
            .field("url", &self.url)
            .field("pid", &self.pid)
            .field("data_dir", &self.data_dir)
            .finish_non_exhaustive()
    }
}

/// Why it is not known whom to call, or as whom.
#[derive(Debug, thiserror::Error)]
pub enum DiscoverError {
    /// No server was ever started here, and none is named.
    #[error(
        "no Lepton is known here: start one with `lepton up`, or set LEPTON_URL and LEPTON_TOKEN"
    )]
    NothingKnown,
    /// A server is named, but no token goes with it.
    #[error(
        "no token for `{url}`: set LEPTON_TOKEN (`lepton token create NAME` makes one, where the server runs)"
    )]
    NoToken {
        /// The server.
        url: String,
    },
    /// A URL is not one of a server.
    #[error("`{url}` is not the URL of a server: write it as {DEFAULT_URL}")]
    BadUrl {
        /// What was given.
        url: String,
    },
    /// The token cannot be sent.
    #[error("LEPTON_TOKEN is no token: it has characters that no token has")]
    BadToken,
    /// The project's name is not valid.
    #[error("LEPTON_PROJECT: {0}")]
    BadProject(#[from] ParseNameError),
    /// The credential file is open to others.
    #[error(transparent)]
    TooOpen(#[from] CredentialsTooOpen),
    /// The credential file cannot be used.
    #[error("cannot use the credential file `{}`: {cause}", path.display())]
    BadFile {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: String,
    },
}

/// The credential file is open to others.
#[derive(Debug, thiserror::Error)]
#[error("others can read the owner's credential in `{}`: close it with `chmod 600`, and revoke the token if they may have", path.display())]
pub struct CredentialsTooOpen {
    /// Which file.
    pub path: PathBuf,
}

impl Discovery {
    /// What the environment says.
    #[must_use]
    pub fn from_env() -> Self {
        let text = |key: &str| std::env::var(key).ok().filter(|value| !value.is_empty());
        let path = |key: &str| {
            std::env::var_os(key)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        Self {
            url: text("LEPTON_URL"),
            token: text("LEPTON_TOKEN"),
            project: text("LEPTON_PROJECT"),
            ca_file: path("LEPTON_CA_FILE"),
            data_dir: path("LEPTON_DATA_DIR"),
            config_home: path("XDG_CONFIG_HOME")
                .or_else(|| path("HOME").map(|home| home.join(".config"))),
        }
    }

    /// The file that names the newest server started by this user.
    #[must_use]
    pub fn pointer_file(&self) -> Option<PathBuf> {
        let home = self.config_home.as_ref()?;
        Some(home.join("lepton").join("current.json"))
    }

    /// Finds the server and the token.
    ///
    /// # Errors
    /// If nothing is known, or what is known cannot be used.
    pub fn find(&self) -> Result<Found, DiscoverError> {
        let project = self.project.as_deref().map(str::parse).transpose()?;
        let given = self.token.as_deref().map(clean_token).transpose()?;
        let (url, token) = match (&self.url, given) {
            (Some(url), Some(token)) => (clean_url(url)?, token.to_owned()),
            (named, given) => self.complete(named.as_deref(), given)?,
        };
        Ok(Found {
            url,
            token,
            project,
            ca_file: self.ca_file.clone(),
        })
    }

    /// Completes what is named from the credential file.
    fn complete(
        &self,
        named: Option<&str>,
        given: Option<&str>,
    ) -> Result<(String, String), DiscoverError> {
        let named = named.map(clean_url).transpose()?;
        let file = self.credential_file()?;
        match (named, given, file) {
            (None, None, None) => Err(DiscoverError::NothingKnown),
            (None, Some(token), None) => Ok((DEFAULT_URL.to_owned(), token.to_owned())),
            (None, given, Some(file)) => {
                let token = given.map_or(file.token, str::to_owned);
                Ok((clean_url(&file.url)?, token))
            }
            (Some(url), Some(token), _) => Ok((url, token.to_owned())),
            (Some(url), None, Some(file)) if same_server(&url, &file.url) => Ok((url, file.token)),
            (Some(url), None, _) => Err(DiscoverError::NoToken { url }),
        }
    }

    fn credential_file(&self) -> Result<Option<CredentialFile>, DiscoverError> {
        let path = match &self.data_dir {
            Some(dir) => Some(dir.join("credentials").join("owner.json")),
            None => self.pointer_file(),
        };
        path.map_or(Ok(None), |path| read_credentials(&path))
    }
}

/// Reads a credential file, if it is there; refuses one that others can read.
fn read_credentials(path: &Path) -> Result<Option<CredentialFile>, DiscoverError> {
    let bad = |cause: String| DiscoverError::BadFile {
        path: path.to_owned(),
        cause,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(bad(error.to_string())),
    };
    let facts = file.metadata().map_err(|error| bad(error.to_string()))?;
    if facts.permissions().mode() & 0o077 != 0 {
        let path = path.to_owned();
        return Err(CredentialsTooOpen { path }.into());
    }
    serde_json::from_reader(file.take(CREDENTIAL_BYTES_MAX))
        .map(Some)
        .map_err(|error| bad(error.to_string()))
}

/// A credential is some 200 bytes; what is longer is something else.
const CREDENTIAL_BYTES_MAX: u64 = 64 << 10;

/// Without the line end that files and secrets of a cluster have; refuses what cannot be sent.
fn clean_token(token: &str) -> Result<&str, DiscoverError> {
    let clean = token.trim();
    match clean.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(clean),
        false => Err(DiscoverError::BadToken),
    }
}

/// Without a `/` at its end; refuses what is not `http://…` or `https://…`.
fn clean_url(url: &str) -> Result<String, DiscoverError> {
    let clean = url.trim().trim_end_matches('/');
    let host = clean
        .strip_prefix("http://")
        .or_else(|| clean.strip_prefix("https://"));
    match host {
        Some(host) if !host.is_empty() && !host.contains(['@', ' ', '?', '#']) => {
            Ok(clean.to_owned())
        }
        _ => Err(DiscoverError::BadUrl {
            url: url.chars().take(200).collect(),
        }),
    }
}

/// Whether both URLs mean the same port; `localhost` is `127.0.0.1`.
fn same_server(a: &str, b: &str) -> bool {
    let plain = |url: &str| {
        url.trim_end_matches('/')
            .replace("://localhost", "://127.0.0.1")
    };
    plain(a) == plain(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home_with(url: &str, mode: u32) -> (tempfile::TempDir, Discovery) {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path().join("lepton");
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("current.json");
        let body = format!(r#"{{"url":"{url}","token":"lpt_file","pid":7,"data_dir":"/d"}}"#);
        std::fs::write(&path, body).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let discovery = Discovery {
            config_home: Some(home.path().to_owned()),
            ..Discovery::default()
        };
        (home, discovery)
    }

    #[test]
    fn the_environment_goes_before_the_file() {
        let (_home, mut discovery) = home_with("http://127.0.0.1:5110", 0o600);
        assert_eq!(discovery.find().unwrap().token, "lpt_file");
        discovery.url = Some("https://lepton.example/".to_owned());
        discovery.token = Some("lpt_env".to_owned());
        let found = discovery.find().unwrap();
        assert_eq!(found.url, "https://lepton.example");
        assert_eq!(found.token, "lpt_env");
    }

    #[test]
    fn the_owners_token_goes_to_no_other_server() {
        let (_home, mut discovery) = home_with("http://127.0.0.1:5110", 0o600);
        discovery.url = Some("http://localhost:5110".to_owned());
        assert_eq!(discovery.find().unwrap().token, "lpt_file");
        discovery.url = Some("http://evil.example:5110".to_owned());
        assert!(matches!(
            discovery.find(),
            Err(DiscoverError::NoToken { .. })
        ));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let (_home, discovery) = home_with("http://127.0.0.1:5110", 0o640);
        assert!(matches!(discovery.find(), Err(DiscoverError::TooOpen(_))));
    }

    #[test]
    fn urls_without_scheme_or_with_credentials_are_refused() {
        for bad in ["127.0.0.1:5110", "ftp://x", "http://", "http://a@b", ""] {
            assert!(clean_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_loses_its_line_end_and_keeps_to_ascii() {
        let (_home, mut discovery) = home_with("http://127.0.0.1:5110", 0o600);
        discovery.token = Some("lpt_env\n".to_owned());
        assert_eq!(discovery.find().unwrap().token, "lpt_env");
        for bad in ["lpt_\u{fc}", "lpt a"] {
            discovery.token = Some(bad.to_owned());
            assert!(matches!(discovery.find(), Err(DiscoverError::BadToken)));
        }
    }

    #[test]
    fn nothing_known_says_what_to_do() {
        let message = Discovery::default().find().unwrap_err().to_string();
        assert!(message.contains("`lepton up`"), "{message}");
    }
}
