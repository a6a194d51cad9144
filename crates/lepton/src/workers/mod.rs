//! The built-in workloads: they find everything in their arguments and environment, as any
//! script does, and reach the server only through its API.

pub(crate) mod prepare;
pub(crate) mod serve;
pub(crate) mod spool;
pub(crate) mod train;
