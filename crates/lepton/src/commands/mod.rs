//! The commands, a file each: their arguments, the calls they make, and what
//! they show. Must not know: rules of the business, which are the server's.

pub(crate) mod apply;
pub(crate) mod artifacts;
pub(crate) mod cancel;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod data;
pub(crate) mod delete;
pub(crate) mod deploy;
pub(crate) mod describe;
pub(crate) mod env;
pub(crate) mod events;
pub(crate) mod explain;
pub(crate) mod get;
pub(crate) mod keys;
pub(crate) mod lineage;
pub(crate) mod logs;
pub(crate) mod model;
pub(crate) mod objects;
pub(crate) mod predict;
pub(crate) mod project;
pub(crate) mod reserve;
pub(crate) mod run;
pub(crate) mod runs;
pub(crate) mod token;
pub(crate) mod train;
pub(crate) mod up;
pub(crate) mod version;
pub(crate) mod whoami;
pub(crate) mod worker;
