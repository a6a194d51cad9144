//! The certificate of whole machines, added up again from the need alone.
//!
//! Owns: what the boxes prove, whether they hold every choice, the prices in words. Must not know:
//! how the tree was grown.

use super::{Fleet, Need, Proof, WHOLE, worth};

impl Fleet {
    pub(super) fn bound(&self, need: &Need) -> f64 {
        let full = self
            .proof
            .iter()
            .filter(|leaf| !(leaf.empty && need.proven(leaf) > 0.0));
        full.map(|leaf| if leaf.empty { 0.0 } else { need.proven(leaf) })
            .fold(f64::INFINITY, f64::min)
            .min(self.usd_per_hour)
    }

    /// Recomputes the certificate from the need: nothing that the solver said is believed.
    #[must_use]
    pub fn verify(&self, need: &Need) -> Proof {
        let mut overstep: f64 = 0.0;
        for (number, kind) in need.kinds.iter().enumerate() {
            let count = f64::from(self.machines[number]);
            overstep = overstep.max(count - f64::from(kind.count));
            for (resource, has) in kind.has.iter().enumerate() {
                let loads = need.loads.iter().zip(&self.parts);
                let used: f64 = loads
                    .map(|(load, parts)| parts[number] * load.needs[resource])
                    .sum();
                overstep = overstep.max(used - count * has);
            }
        }
        for (load, parts) in need.loads.iter().zip(&self.parts) {
            let all: f64 = parts.iter().sum();
            overstep = overstep.max((1.0 - all).abs());
            let astray = parts.iter().zip(&load.allowed).filter(|(_, yes)| !**yes);
            overstep = astray.fold(overstep, |worst, (part, _)| worst.max(part.abs()));
        }
        let all: Vec<(u32, u32)> = need.kinds.iter().map(|kind| (0, kind.count)).collect();
        let boxes: Vec<&[(u32, u32)]> = self.proof.iter().map(|leaf| &leaf.within[..]).collect();
        Proof {
            overstep,
            gap_usd_per_hour: need.cost(&self.machines) - self.bound(need),
            complete: covers(&all, &boxes),
        }
    }

    /// What the scarce things are worth, in words.
    #[must_use]
    pub fn in_words(&self, need: &Need) -> Vec<String> {
        let loads = need.loads.iter().filter_map(|load| {
            let held = need.held_for(load, &self.prices);
            (held.is_finite() && held > WHOLE).then(|| {
                let name = &load.name;
                format!(
                    "a hundredth less of `{name}` would save {:.2} dollars an hour",
                    held / 100.0
                )
            })
        });
        let kinds = need
            .kinds
            .iter()
            .zip(&self.prices)
            .filter_map(|(kind, prices)| {
                let gain = worth(&kind.has, prices) - kind.usd_per_hour;
                (gain > WHOLE).then(|| {
                    let name = &kind.name;
                    format!("one more `{name}` would save {gain:.2} dollars an hour")
                })
            });
        loads.chain(kinds).collect()
    }
}

/// Whether the boxes hold every point of `all`: they do if they are its two halves along some side,
/// each covered by those within it.
fn covers(all: &[(u32, u32)], boxes: &[&[(u32, u32)]]) -> bool {
    if boxes.iter().any(|it| inside(all, it)) {
        return true;
    }
    let touching: Vec<&[(u32, u32)]> = boxes.iter().copied().filter(|it| meets(all, it)).collect();
    if touching.is_empty() {
        return false;
    }
    // A side of some box within cuts this one in two.
    for (kind, (least, most)) in all.iter().enumerate() {
        let cut = touching
            .iter()
            .flat_map(|it| [it[kind].0, it[kind].1.saturating_add(1)]);
        let cut = cut.filter(|cut| least < cut && cut <= most).find(|cut| {
            // One that no box straddles: the first split of the tree.
            touching
                .iter()
                .all(|it| it[kind].1 < *cut || *cut <= it[kind].0)
        });
        if let Some(cut) = cut {
            let (mut below, mut above) = (all.to_vec(), all.to_vec());
            below[kind].1 = cut - 1;
            above[kind].0 = cut;
            return covers(&below, &touching) && covers(&above, &touching);
        }
    }
    false
}

fn inside(inner: &[(u32, u32)], outer: &[(u32, u32)]) -> bool {
    let sides = inner.iter().zip(outer);
    inner.len() == outer.len() && { sides }.all(|(a, b)| b.0 <= a.0 && a.1 <= b.1)
}

fn meets(a: &[(u32, u32)], b: &[(u32, u32)]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 <= b.1 && b.0 <= a.1)
}
