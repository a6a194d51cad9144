//! Keeps a waiting shim small, although it is the whole binary.
//!
//! The start of a process touches many pages of the program and its libraries, and the kernel maps
//! their neighbours along. They are unchanged copies of files: given back, only those that the loop
//! touches return. What stays is what differs from the files: the stack, the heap, and pages that
//! the dynamic linker relocated, which a binary linked at a fixed address does not have.

use crate::sys;

/// What can be given back.
#[derive(Default)]
pub(super) struct Footprint {
    mappings: Vec<(usize, usize)>,
}

impl Footprint {
    /// Finds it, once everything is loaded.
    pub(super) fn learn() -> Self {
        let map = std::fs::read_to_string("/proc/self/smaps").unwrap_or_default();
        let mappings = clean_mappings(&map);
        drop(map);
        sys::trim_heap();
        Self { mappings }
    }

    /// Gives it back. What runs next brings a few pages back.
    pub(super) fn release(&self) {
        for (start, end) in &self.mappings {
            sys::drop_clean_pages(*start, *end);
        }
    }
}

/// The private, unwritable mappings of files in which no page was changed.
fn clean_mappings(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        if let Some(range) = header(line) {
            candidate = range;
        } else if let Some(rest) = line.strip_prefix("Anonymous:")
            && let Some(range) = candidate.take()
            && rest.trim() == "0 kB"
        {
            found.push(range);
        }
    }
    found
}

/// Whether a line opens a mapping; and its range, if it is of the sort that can be given back.
#[expect(clippy::option_option, reason = "two questions, one line of text")]
fn header(line: &str) -> Option<Option<(usize, usize)>> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let range = (
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    );
    let permissions = fields.next()?;
    let path = fields.nth(3);
    let file = path.is_some_and(|path| path.starts_with('/'));
    let fixed = permissions.ends_with('p') && !permissions.contains('w');
    Some((file && fixed).then_some(range))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unchanged_mappings_of_files_are_given_back() {
        let smaps = "\
55d0-55d4 r-xp 00000000 fe:00 12 /usr/bin/x
Rss: 16 kB
Anonymous:             0 kB
AnonHugePages:         0 kB
55d4-55d8 r--p 00004000 fe:00 12 /usr/bin/x
Anonymous:             8 kB
55d8-55dc rw-p 00008000 fe:00 12 /usr/bin/x
Anonymous:             0 kB
7ff0-7ff4 r-xp 00000000 00:00 0 [vdso]
Anonymous:             0 kB
";
        assert_eq!(clean_mappings(smaps), [(0x55d0, 0x55d4)]);
    }
}
