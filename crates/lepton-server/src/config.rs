//! The configuration file: documented, validated, every value with a default.

mod objects;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use lepton_types::{CpuMillis, DurationMs, MemoryBytes};
use serde::{Deserialize, Serialize};

pub use objects::{KmsConfig, ObjectsConfig, PlaceConfig, PricesConfig};

/// The main port: the lightest charged lepton weighs 0.511 MeV.
pub const DEFAULT_LISTEN: &str = "127.0.0.1:5110";

/// What `lepton up` can be told. See `docs/configuration.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the main port listens.
    pub listen: SocketAddr,
    /// Whether a proxy in front speaks TLS; wanted for any address beyond loopback.
    pub behind_proxy: bool,
    /// The URL under which clients and workloads reach the server, if not the listening address.
    pub public_url: Option<String>,
    /// What may be used of this machine.
    pub pool: PoolConfig,
    /// How workers are run.
    pub executor: ExecutorConfig,
    /// How models are served.
    pub serving: ServingConfig,
    /// The S3 face.
    pub s3: S3Config,
    /// Where the bytes of everything are kept.
    pub objects: ObjectsConfig,
    /// What becomes of runs.
    pub runs: RunsConfig,
    /// What one caller may use at most.
    pub limits: LimitsConfig,
}

/// What may be used of this machine; all of it where absent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolConfig {
    /// Processors.
    pub cpu: Option<CpuMillis>,
    /// Memory.
    pub memory: Option<MemoryBytes>,
}

/// Whose user workers run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IsolationConfig {
    /// As root one unprivileged user a project, else none.
    Auto,
    /// One unprivileged user a project; needs root.
    ProjectUser,
    /// The server's own user: workloads can read all that the server can.
    None,
}

/// How workers are run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExecutorConfig {
    /// Whose user workers run as.
    pub isolation: IsolationConfig,
    /// The first user id that is used for projects.
    pub first_uid: u32,
    /// How much is kept of each log of each worker.
    pub log_bytes_max: MemoryBytes,
    /// How long a worker has between SIGTERM and SIGKILL.
    pub grace: DurationMs,
    /// Whether workers are ended when the server stops; else they go on, and the next start finds
    /// them again.
    pub stop_workers_on_exit: bool,
}

/// How models are served.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ServingConfig {
    /// The shared library of ONNX Runtime; looked for beside the binary where absent.
    pub onnxruntime: Option<PathBuf>,
    /// How long a request waits for a replica.
    pub queue_timeout: DurationMs,
    /// The longest request body.
    pub body_bytes_max: MemoryBytes,
}

/// The S3 face.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct S3Config {
    /// Where it listens; the port after the main one where absent.
    pub listen: Option<SocketAddr>,
    /// The URL under which clients and workloads reach it, if not the listening address.
    pub public_url: Option<String>,
}

/// What becomes of runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunsConfig {
    /// How long runs, experiments and logged models stay in the bin before they are deleted for good.
    pub keep_deleted: DurationMs,
}

/// What one caller may use at most.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// The longest upload.
    pub upload_bytes_max: MemoryBytes,
    /// Jobs of one project that may wait or run.
    pub open_jobs_max: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: default_data_dir(),
            listen: DEFAULT_LISTEN
                .parse()
                .expect("invariant: the default address is valid"),
            behind_proxy: false,
            public_url: None,
            pool: PoolConfig::default(),
            executor: ExecutorConfig::default(),
            serving: ServingConfig::default(),
            s3: S3Config::default(),
            objects: ObjectsConfig::default(),
            runs: RunsConfig::default(),
            limits: LimitsConfig::default(),
        }
    }
}

impl Default for ExecutorConfig {
    fn default() -> Self {
        Self {
            isolation: IsolationConfig::Auto,
            first_uid: 700_000,
            log_bytes_max: MemoryBytes::from_mib(64),
            grace: DurationMs::from_secs(10),
            stop_workers_on_exit: false,
        }
    }
}

impl Default for ServingConfig {
    fn default() -> Self {
        Self {
            onnxruntime: None,
            queue_timeout: DurationMs::from_secs(30),
            body_bytes_max: MemoryBytes::from_mib(64),
        }
    }
}

impl Default for RunsConfig {
    fn default() -> Self {
        Self {
            keep_deleted: DurationMs::from_secs(30 * 86_400),
        }
    }
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            upload_bytes_max: MemoryBytes::from_mib(64 << 10),
            open_jobs_max: 50_000,
        }
    }
}

/// The URL of a listening address, as seen from this machine.
fn reachable(listen: SocketAddr) -> String {
    let mut address = listen;
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    format!("http://{address}")
}

/// The shared library of ONNX Runtime in a folder, whatever its version.
fn library_in(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let libraries = entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libonnxruntime.so") || name.starts_with("libonnxruntime.1")
    });
    libraries.max()
}

/// `/var/lib/lepton` for root, `~/.local/share/lepton` for everybody else.
fn default_data_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/lib/lepton");
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let shared = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from);
    let shared = shared.or_else(|| home.map(|home| home.join(".local/share")));
    shared.unwrap_or_else(|| PathBuf::from(".")).join("lepton")
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read `{file}`")]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file does not say what it must.
    #[error("`{file}` is not a valid configuration:\n{source}")]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// It would open Lepton to the network without encryption.
    #[error(
        "`{listen}` is beyond this machine, and Lepton would speak to it without encryption: put a \
         proxy that speaks TLS in front and say `--behind-proxy`, or listen on 127.0.0.1"
    )]
    Exposed {
        /// The address.
        listen: SocketAddr,
    },
    /// A value cannot be.
    #[error("`{key}` cannot be {value}: {rule}")]
    Value {
        /// Which.
        key: String,
        /// What was given.
        value: String,
        /// What it must be.
        rule: String,
    },
    /// Others may read a file with secrets.
    #[error(
        "`{file}` can be read by others: run `chmod 600 {file}`, or replace the credentials if they may have leaked"
    )]
    OpenSecret {
        /// The file.
        file: PathBuf,
    },
    /// A file with credentials is of another form.
    #[error("line {line} of `{file}` is not of the form `NAME = VALUE`")]
    Credentials {
        /// The file.
        file: PathBuf,
        /// Which line.
        line: usize,
    },
}

impl Config {
    /// Reads a configuration file.
    ///
    /// # Errors
    /// If it cannot be read, or says what it may not.
    pub fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable {
            file: file.to_owned(),
            source,
        })?;
        toml::from_str(&text).map_err(|source| ConfigError::Invalid {
            file: file.to_owned(),
            source: Box::new(source),
        })
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// The first value that cannot be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let exposed = [Some(self.listen), self.s3.listen].into_iter().flatten();
        let exposed = exposed
            .into_iter()
            .find(|listen| !listen.ip().is_loopback());
        if let Some(listen) = exposed.filter(|_| !self.behind_proxy) {
            return Err(ConfigError::Exposed { listen });
        }
        let refuse = |key: &str, value: String, rule: &str| {
            Err(ConfigError::Value {
                key: key.to_owned(),
                value,
                rule: rule.to_owned(),
            })
        };
        if self.s3.listen == Some(self.listen) && self.listen.port() != 0 {
            let rule = "`listen` has this address: S3 needs a port of its own";
            return refuse("s3.listen", self.listen.to_string(), rule);
        }
        if self.executor.first_uid < 1_000 {
            let rule = "users below 1000 belong to the system";
            return refuse(
                "executor.first_uid",
                self.executor.first_uid.to_string(),
                rule,
            );
        }
        if self.pool.cpu.is_some_and(|cpu| cpu.as_millis() == 0) {
            return refuse("pool.cpu", "0".to_owned(), "nothing could run");
        }
        if self
            .pool
            .memory
            .is_some_and(|memory| memory.as_bytes() == 0)
        {
            return refuse("pool.memory", "0".to_owned(), "nothing could run");
        }
        for (key, url) in [
            ("public_url", &self.public_url),
            ("s3.public_url", &self.s3.public_url),
        ] {
            let Some(url) = url else { continue };
            if url.starts_with("http://") || url.starts_with("https://") {
                continue;
            }
            return refuse(key, url.clone(), "it must begin with http:// or https://");
        }
        self.objects.validate()
    }

    /// Under which URL workloads and clients of this machine reach the server.
    #[must_use]
    pub fn url(&self) -> String {
        if let Some(url) = &self.public_url {
            return url.trim_end_matches('/').to_owned();
        }
        reachable(self.listen)
    }

    /// Where the S3 face is to listen.
    #[must_use]
    pub fn s3_listen(&self) -> SocketAddr {
        self.s3.listen.unwrap_or_else(|| {
            let mut address = self.listen;
            let port = address.port();
            // A free port stays a free port, and the last one has none after it.
            address.set_port(if port == 0 { 0 } else { port.wrapping_add(1) });
            address
        })
    }

    /// Under which URL workloads and clients of this machine reach the S3 face.
    #[must_use]
    pub fn s3_url(&self) -> String {
        match &self.s3.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => reachable(self.s3_listen()),
        }
    }

    /// ONNX Runtime's shared library: the configured one, what the environment names, or what lies
    /// beside the program or in its source tree.
    #[must_use]
    pub fn onnxruntime(&self) -> Option<PathBuf> {
        let named = ["LEPTON_ONNXRUNTIME", "ORT_DYLIB_PATH"].map(std::env::var_os);
        let named = named.into_iter().flatten().map(PathBuf::from);
        if let Some(path) = self
            .serving
            .onnxruntime
            .clone()
            .into_iter()
            .chain(named)
            .next()
        {
            return path.exists().then_some(path);
        }
        let program = std::env::current_exe().and_then(fs::canonicalize).ok()?;
        let beside = program.parent()?;
        let installed = [
            beside.join("lib"),
            beside.join("../lib"),
            beside.join("../lib/lepton"),
        ];
        let source_tree = beside
            .ancestors()
            .map(|folder| folder.join(".deps/onnxruntime"));
        let mut folders = std::iter::once(beside.to_owned())
            .chain(installed)
            .chain(source_tree);
        folders.find_map(|folder| library_in(&folder))
    }

    /// The whole configuration as a file, defaults included.
    #[must_use]
    pub fn to_toml(&self) -> String {
        toml::to_string_pretty(self).expect("invariant: a configuration serialises")
    }

    /// The same, with what may be set and is not in comments.
    #[must_use]
    pub fn to_commented_toml(&self) -> String {
        let set = [
            ("public_url", self.public_url.is_some()),
            ("pool.cpu", self.pool.cpu.is_some()),
            ("pool.memory", self.pool.memory.is_some()),
            ("serving.onnxruntime", self.serving.onnxruntime.is_some()),
            ("s3.listen", self.s3.listen.is_some()),
            ("s3.public_url", self.s3.public_url.is_some()),
            ("objects.backend", self.objects.backend.is_some()),
            ("objects.replica", self.objects.replica.is_some()),
            ("objects.kms", self.objects.kms.is_some()),
            ("objects.prices", self.objects.prices.is_some()),
        ];
        let mut text = self.to_toml();
        let unset = set.iter().filter(|(_, is_set)| !is_set);
        for (at, (key, _)) in unset.enumerate() {
            if at == 0 {
                text.push_str("\n# Not set; docs/configuration.md says what that means:\n");
            }
            text.push_str(&format!("# {key}\n"));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_round_trip() {
        let config = Config::default();
        config.validate().unwrap();
        assert_eq!(toml::from_str::<Config>(&config.to_toml()).unwrap(), config);
    }

    #[test]
    fn what_is_not_set_is_told_of() {
        let mut config = Config::default();
        assert!(config.to_commented_toml().contains("\n# pool.cpu\n"));
        config.pool.cpu = Some(CpuMillis::from_millis(500));
        let text = config.to_commented_toml();
        assert!(!text.contains("# pool.cpu"), "{text}");
        assert_eq!(toml::from_str::<Config>(&text).unwrap(), config);
    }

    #[test]
    fn mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("lepton.toml");
        std::fs::write(&file, "listen = \"127.0.0.1:1\"\nlistne = 3\n").unwrap();
        let message = Config::read(&file).unwrap_err().to_string();
        assert!(
            message.contains("line 2") && message.contains("listne"),
            "{message}"
        );
        let open = Config {
            listen: "0.0.0.0:80".parse().unwrap(),
            ..Config::default()
        };
        assert!(matches!(open.validate(), Err(ConfigError::Exposed { .. })));
        let mut twice = Config::default();
        twice.s3.listen = Some(twice.listen);
        let message = twice.validate().unwrap_err().to_string();
        assert!(message.contains("s3.listen"), "{message}");
    }
}
