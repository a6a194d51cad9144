//! Free loopback ports for named ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError};

use crate::StartError;

pub(super) struct Ports {
    range: RangeInclusive<u16>,
    /// Where to look next, so that a port just given back rests for a while.
    next: Mutex<u16>,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        let next = Mutex::new(*range.start());
        Self { range, next }
    }

    /// A port for each name: neither in `taken`, nor listened on by anybody now.
    pub(super) fn take(
        &self,
        names: &[String],
        taken: &BTreeSet<u16>,
    ) -> Result<BTreeMap<String, u16>, StartError> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = BTreeMap::new();
        let mut tries = self.range.len();
        for name in names {
            let port = loop {
                if tries == 0 {
                    return Err(StartError::NoPort {
                        first: *self.range.start(),
                        last: *self.range.end(),
                    });
                }
                tries -= 1;
                let port = *next;
                *next = if port >= *self.range.end() {
                    *self.range.start()
                } else {
                    port + 1
                };
                if !taken.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
                {
                    break port;
                }
            };
            found.insert(name.clone(), port);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taken_and_busy_ports_are_passed_over() {
        let busy = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = busy.local_addr().unwrap().port();
        let ports = Ports::new(port..=port);
        let names = ["http".to_owned()];
        assert!(matches!(
            ports.take(&names, &BTreeSet::new()),
            Err(StartError::NoPort { .. })
        ));
        drop(busy);
        assert!(ports.take(&names, &BTreeSet::from([port])).is_err());
        assert_eq!(ports.take(&names, &BTreeSet::new()).unwrap()["http"], port);
    }
}
