//! Where objects are kept, in the configuration: places, their credentials, the key service, prices.
//!
//! Owns: that no secret stands in the configuration itself, and that mistakes are told before
//! anybody is asked anything. Must not know: how objects are kept.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use lepton_objects::{BackendConfig, RemoteConfig};
use lepton_types::DurationMs;
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// A pass over all lifecycles goes through buckets, so days have an end below.
const LIFECYCLE_DAY_MIN: DurationMs = DurationMs::from_secs(1);

/// What clients mean by a day.
const LIFECYCLE_DAY_MAX: DurationMs = DurationMs::from_secs(86_400);

/// Where the bytes of everything are kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ObjectsConfig {
    /// How often the replica is brought up to date.
    pub replicate_every: DurationMs,
    /// How long a day in the rules of lifecycles is: less than 24 hours to try rules out.
    pub lifecycle_day: DurationMs,
    /// Where they are kept; `contents/` in the data directory where absent.
    pub backend: Option<PlaceConfig>,
    /// Where they are copied to, and repaired from.
    pub replica: Option<PlaceConfig>,
    /// A key service whose key wraps data keys; files in the data directory where absent.
    pub kms: Option<KmsConfig>,
    /// What storage costs; nothing is priced where absent.
    pub prices: Option<PricesConfig>,
}

impl Default for ObjectsConfig {
    fn default() -> Self {
        Self {
            replicate_every: DurationMs::from_secs(3_600),
            lifecycle_day: LIFECYCLE_DAY_MAX,
            backend: None,
            replica: None,
            kms: None,
            prices: None,
        }
    }
}

/// A place that keeps objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlaceConfig {
    /// `file:///FOLDER`, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`.
    pub url: String,
    /// Where the service answers, if it is not the cloud's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The region.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A file with the credentials, mode 0600; the environment's where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<PathBuf>,
    /// Further options of the `object_store` library; no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// A key of the Transit engine of Vault or OpenBao.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KmsConfig {
    /// Where the service answers: `https://vault:8200`.
    pub address: String,
    /// Where the engine is mounted.
    #[serde(default = "transit")]
    pub mount: String,
    /// The key's name.
    pub key: String,
    /// A file of mode 0600 with the token.
    pub token_file: PathBuf,
    /// Whether it only opens what it wrapped, and wraps nothing any more.
    #[serde(default)]
    pub retired: bool,
}

fn transit() -> String {
    "transit".to_owned()
}

impl KmsConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
        if !is_url(&self.address) {
            let rule = "it must begin with http:// or https://";
            return Err(refused("objects.kms.address", &self.address, rule));
        }
        for (key, word) in [("mount", &self.mount), ("key", &self.key)] {
            let is_word = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if word.is_empty() || word.len() > 28 || !word.chars().all(is_word) {
                let rule = "up to 28 letters, digits, `-`, `_` and `.`";
                return Err(refused(format!("objects.kms.{key}"), word, rule));
            }
        }
        Ok(())
    }
}

/// What storage costs, in one currency.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PricesConfig {
    /// Which currency, for people: `EUR`.
    pub currency: String,
    /// Of a million requests.
    pub requests_million: f64,
    /// Of a GiB that goes out.
    pub egress_gib: f64,
    /// Of a GiB stored for a month of 730 hours, by storage class.
    pub storage_gib_month: BTreeMap<String, f64>,
}

/// What a scheme takes from the environment.
struct Scheme {
    name: &'static str,
    /// Variables, whose names in small letters are options.
    variables: &'static [&'static str],
    /// What signs requests, by its option: at least one of them is there where no machine of the
    /// cloud can be asked.
    needed: &'static str,
}

const SCHEMES: [Scheme; 3] = [
    Scheme {
        name: "s3",
        variables: &[
            "AWS_ACCESS_KEY_ID",
            "AWS_SECRET_ACCESS_KEY",
            "AWS_SESSION_TOKEN",
            "AWS_DEFAULT_REGION",
            "AWS_REGION",
            "AWS_ROLE_ARN",
            "AWS_ROLE_SESSION_NAME",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
        ],
        needed: "aws_secret_access_key",
    },
    Scheme {
        name: "gs",
        variables: &["GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT"],
        needed: "google_service_account",
    },
    Scheme {
        name: "az",
        variables: &[
            "AZURE_STORAGE_ACCOUNT_NAME",
            "AZURE_STORAGE_ACCOUNT_KEY",
            "AZURE_STORAGE_SAS_TOKEN",
            "AZURE_CLIENT_ID",
            "AZURE_CLIENT_SECRET",
            "AZURE_TENANT_ID",
            "AZURE_FEDERATED_TOKEN_FILE",
        ],
        needed: "azure_storage_account_key",
    },
];

/// Credentials are some lines.
const CREDENTIALS_BYTES_MAX: u64 = 64 << 10;

impl ObjectsConfig {
    /// Checks what the types cannot; reads no file.
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        for (key, place) in self.given() {
            place.validate(key)?;
        }
        if let (Some(backend), Some(replica)) = (&self.backend, &self.replica)
            && (&backend.url, &backend.endpoint) == (&replica.url, &replica.endpoint)
        {
            let rule = "a replica in the place of the objects is lost together with them";
            return Err(refused("objects.replica.url", &replica.url, rule));
        }
        if self.replicate_every < DurationMs::from_secs(1) {
            let value = self.replicate_every.to_string();
            let rule = "each pass lists both places, so a second is the least";
            return Err(refused("objects.replicate_every", &value, rule));
        }
        if !(LIFECYCLE_DAY_MIN..=LIFECYCLE_DAY_MAX).contains(&self.lifecycle_day) {
            let value = self.lifecycle_day.to_string();
            let rule = "a day is 24 hours, or at least a second where rules are tried out";
            return Err(refused("objects.lifecycle_day", &value, rule));
        }
        self.kms.as_ref().map_or(Ok(()), KmsConfig::validate)?;
        self.prices.as_ref().map_or(Ok(()), PricesConfig::validate)
    }

    /// Checks that credentials can be read, too.
    ///
    /// # Errors
    /// The first place that cannot be used.
    pub fn check_places(&self) -> Result<(), ConfigError> {
        self.backend(Path::new("contents"))?;
        if let Some(kms) = &self.kms {
            readable(&kms.token_file)?;
        }
        self.replica().map(drop)
    }

    fn given(&self) -> impl Iterator<Item = (&'static str, &PlaceConfig)> {
        let backend = self.backend.iter().map(|place| ("objects.backend", place));
        backend.chain(self.replica.iter().map(|place| ("objects.replica", place)))
    }

    /// Where objects are kept: in `local`, unless another place is named.
    pub(crate) fn backend(&self, local: &Path) -> Result<BackendConfig, ConfigError> {
        match &self.backend {
            Some(place) => place.resolve("objects.backend", &environment),
            None => Ok(BackendConfig::Local {
                root: local.to_owned(),
            }),
        }
    }

    /// Where they are copied to.
    pub(crate) fn replica(&self) -> Result<Option<BackendConfig>, ConfigError> {
        let resolve = |place: &PlaceConfig| place.resolve("objects.replica", &environment);
        self.replica.as_ref().map(resolve).transpose()
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn refused(key: impl Into<String>, value: &str, rule: impl Into<String>) -> ConfigError {
    ConfigError::Value {
        key: key.into(),
        value: format!("`{value}`"),
        rule: rule.into(),
    }
}

impl PricesConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        let classes = self.storage_gib_month.iter();
        let classes = classes.map(|(class, price)| (format!("storage_gib_month.{class}"), *price));
        let others = [
            ("requests_million".to_owned(), self.requests_million),
            ("egress_gib".to_owned(), self.egress_gib),
        ];
        for (name, price) in classes.chain(others) {
            if !(price.is_finite() && price >= 0.0) {
                let key = format!("objects.prices.{name}");
                return Err(refused(key, &price.to_string(), "prices are not negative"));
            }
        }
        if self.currency.is_empty() {
            let rule = "say which currency, as in `currency = \"EUR\"`";
            return Err(refused("objects.prices.currency", "", rule));
        }
        Ok(())
    }
}

/// Whether an option holds what nobody else may know.
fn is_secret(option: &str) -> bool {
    let names_file = option.ends_with("_file") || option.ends_with("key_id");
    let says = |word| option.contains(word);
    !names_file && (says("secret") || says("token") || says("password") || option.ends_with("key"))
}

impl PlaceConfig {
    fn scheme(&self) -> &str {
        self.url.split_once("://").map_or("", |(scheme, _)| scheme)
    }

    fn validate(&self, key: &str) -> Result<(), ConfigError> {
        if self.scheme() == "file" {
            return self.folder(key).map(drop);
        }
        if let Some(endpoint) = &self.endpoint
            && !(endpoint.starts_with("http://") || endpoint.starts_with("https://"))
        {
            let rule = "it must begin with http:// or https://";
            return Err(refused(format!("{key}.endpoint"), endpoint, rule));
        }
        if let Some(option) = self.options.keys().find(|option| is_secret(option)) {
            let rule = format!(
                "secrets do not belong into the configuration: write `{option} = …` into a file of \
                 mode 0600 and name it as `credentials`, or use the environment"
            );
            return Err(refused(format!("{key}.options.{option}"), "…", rule));
        }
        self.remote(self.plain_options())
            .check()
            .map_err(|error| refused(key, &self.url, crate::error::Chain(&error).to_string()))
    }

    /// The folder of a place on a disk.
    fn folder(&self, key: &str) -> Result<PathBuf, ConfigError> {
        let path = self.url.strip_prefix("file://").unwrap_or_default();
        if !path.starts_with('/') {
            let rule = "a folder is named from the root: file:///mnt/objects";
            return Err(refused(format!("{key}.url"), &self.url, rule));
        }
        Ok(PathBuf::from(path))
    }

    fn remote(&self, options: BTreeMap<String, String>) -> RemoteConfig {
        RemoteConfig {
            url: self.url.clone(),
            options,
        }
    }

    /// The options that stand in the configuration.
    fn plain_options(&self) -> BTreeMap<String, String> {
        let mut options = self.options.clone();
        if let Some(endpoint) = &self.endpoint {
            let option = match self.scheme() {
                "gs" => "base_url",
                _ => "endpoint",
            };
            options.insert(option.to_owned(), endpoint.clone());
            if endpoint.starts_with("http://") {
                options.insert("allow_http".to_owned(), "true".to_owned());
            }
        }
        if let Some(region) = &self.region {
            options.insert("region".to_owned(), region.clone());
        }
        options
    }

    /// The place with its credentials.
    fn resolve(
        &self,
        key: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<BackendConfig, ConfigError> {
        if self.scheme() == "file" {
            let root = self.folder(key)?;
            return Ok(BackendConfig::Local { root });
        }
        let scheme = match self.scheme() {
            "gs" => &SCHEMES[1],
            "az" | "azure" | "abfs" => &SCHEMES[2],
            _ => &SCHEMES[0],
        };
        let mut options = match &self.credentials {
            Some(file) if scheme.name == "gs" => {
                readable(file)?;
                let file = file.display().to_string();
                BTreeMap::from([("google_service_account".to_owned(), file)])
            }
            Some(file) => credentials_in(file)?,
            None => {
                let variables = scheme.variables.iter();
                let given = variables
                    .filter_map(|name| Some((name.to_ascii_lowercase(), environment(name)?)));
                given.collect()
            }
        };
        // Elsewhere a machine of the cloud, or a role, may vouch for the server.
        let is_own = self.endpoint.is_some() && scheme.name == "s3";
        if is_own && !options.contains_key(scheme.needed) && !self.is_unsigned() {
            let rule = "no credentials are there: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, \
                        or name a file of mode 0600 that has them as `credentials`";
            return Err(refused(format!("{key}.url"), &self.url, rule));
        }
        options.extend(self.plain_options());
        let remote = self.remote(options);
        remote
            .check()
            .map_err(|error| refused(key, &self.url, crate::error::Chain(&error).to_string()))?;
        Ok(BackendConfig::Remote(remote))
    }

    fn is_unsigned(&self) -> bool {
        let options = self.options.iter();
        let mut unsigned = options.filter(|(name, _)| name.ends_with("skip_signature"));
        unsigned.any(|(_, value)| value == "true")
    }
}

/// Refuses a file that others may read.
fn readable(file: &Path) -> Result<(), ConfigError> {
    let unreadable = |source| ConfigError::Unreadable {
        file: file.to_owned(),
        source,
    };
    let mode = fs::metadata(file).map_err(unreadable)?.mode();
    if mode & 0o077 != 0 {
        return Err(ConfigError::OpenSecret {
            file: file.to_owned(),
        });
    }
    Ok(())
}

/// Lines of the form `NAME = VALUE`, as in AWS's credentials file, of which the first section counts.
fn credentials_in(file: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    use std::io::Read as _;
    readable(file)?;
    let mut text = String::new();
    fs::File::open(file)
        .and_then(|file| file.take(CREDENTIALS_BYTES_MAX).read_to_string(&mut text))
        .map_err(|source| ConfigError::Unreadable {
            file: file.to_owned(),
            source,
        })?;
    let mut options = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.starts_with('[') && !options.is_empty() {
            break;
        }
        if line.is_empty() || line.starts_with(['#', ';', '[']) {
            continue;
        }
        // What stands there may be a secret: it is not repeated.
        let (name, value) = line
            .split_once('=')
            .ok_or_else(|| ConfigError::Credentials {
                file: file.to_owned(),
                line: number,
            })?;
        let value = value.trim().trim_matches('"');
        options.insert(name.trim().to_ascii_lowercase(), value.to_owned());
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::Config;

    fn told(text: &str) -> String {
        let config: Config = toml::from_str(text).unwrap();
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_explained_before_anybody_is_asked() {
        let place = |rest: &str| told(&format!("[objects.backend]\n{rest}"));
        insta::assert_snapshot!(place("url = 's4://b'"), @"`objects.backend` cannot be `s4://b`: the object backend cannot be configured: `s4://b` is no object service: begin with `s3://`, `gs://` or `az://`");
        insta::assert_snapshot!(place("url = 's3:///x'"), @"`objects.backend` cannot be `s3:///x`: the object backend cannot be configured: `s3:///x` names no bucket: write `s3://BUCKET/PREFIX`");
        insta::assert_snapshot!(place("url = 'file://x'"), @"`objects.backend.url` cannot be `file://x`: a folder is named from the root: file:///mnt/objects");
        insta::assert_snapshot!(place("url = 's3://b'\nendpoint = 'minio:9000'"), @"`objects.backend.endpoint` cannot be `minio:9000`: it must begin with http:// or https://");
        insta::assert_snapshot!(place("url = 's3://b'\noptions = {secret_access_key = 'x'}"), @"`objects.backend.options.secret_access_key` cannot be `…`: secrets do not belong into the configuration: write `secret_access_key = …` into a file of mode 0600 and name it as `credentials`, or use the environment");
        let unknown = place("url = 's3://b'\noptions = {colour = 'x'}");
        assert!(unknown.contains("colour"), "{unknown}");
        let twice = "[objects.backend]\nurl = 's3://b'\n[objects.replica]\nurl = 's3://b'\n";
        assert!(told(twice).contains("lost together"));
        let prices = "[objects.prices]\ncurrency = 'EUR'\negress_gib = -1.0\n";
        assert!(told(prices).contains("objects.prices.egress_gib"));
        for day in ["999ms", "25h"] {
            let short = told(&format!("[objects]\nlifecycle_day = '{day}'\n"));
            assert!(short.contains("objects.lifecycle_day"), "{short}");
        }
    }

    fn place(endpoint: Option<&str>, credentials: Option<PathBuf>) -> PlaceConfig {
        PlaceConfig {
            url: "s3://bucket/objects".to_owned(),
            endpoint: endpoint.map(str::to_owned),
            region: None,
            credentials,
            options: BTreeMap::new(),
        }
    }

    #[test]
    fn credentials_come_from_a_private_file_or_the_environment_and_are_never_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        fs::write(
            &file,
            "# mine\n[default]\naws_access_key_id = AKIA\nAWS_SECRET_ACCESS_KEY=\"hush=\"\n[other]\naws_access_key_id = no\n",
        )
        .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let of_file = place(Some("http://127.0.0.1:1"), Some(file.clone()));
        let nothing = |_: &str| None;
        let open = of_file.resolve("objects.backend", &nothing).unwrap_err();
        assert!(open.to_string().contains("chmod 600"), "{open}");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let Ok(BackendConfig::Remote(found)) = of_file.resolve("objects.backend", &nothing) else {
            panic!("a remote place");
        };
        assert_eq!(found.options["aws_access_key_id"], "AKIA");
        assert_eq!(found.options["aws_secret_access_key"], "hush=");
        assert_eq!(found.options["allow_http"], "true");
        assert!(!format!("{found:?}").contains("hush"));

        let of_environment = place(Some("https://minio"), None);
        let given = |name: &str| {
            let is_pair = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"].contains(&name);
            is_pair.then(|| "hush".to_owned())
        };
        let Ok(BackendConfig::Remote(found)) = of_environment.resolve("objects.backend", &given)
        else {
            panic!("a remote place");
        };
        assert_eq!(found.options["aws_secret_access_key"], "hush");
        let none = of_environment.resolve("objects.backend", &nothing);
        assert!(none.unwrap_err().to_string().contains("AWS_ACCESS_KEY_ID"));
        fs::write(&file, "hush\n").unwrap();
        let broken = of_file.resolve("objects.backend", &nothing).unwrap_err();
        let broken = broken.to_string();
        assert!(
            broken.contains("line 1") && !broken.contains("hush"),
            "{broken}"
        );
    }
}
