//! Simulated annealing and a genetic algorithm, for problems beyond an exact solver.
//!
//! Owns: the two searches, bounded by steps. Must not know: what is searched.

use rand::Rng as _;

use crate::Stream;

/// What can be searched: points, what they cost, and how to get from one to others.
pub(super) trait Landscape {
    /// A candidate solution, feasible or priced as if it were far from it.
    type Point: Clone;
    /// Less is better; finite.
    fn cost(&self, point: &Self::Point) -> f64;
    /// A point near this one.
    fn step(&self, point: &Self::Point, rng: &mut Stream) -> Self::Point;
    /// A point between two.
    fn cross(&self, one: &Self::Point, other: &Self::Point, rng: &mut Stream) -> Self::Point;
}

/// The share of the starting cost that is accepted as a loss at first, and at last.
const HOT: f64 = 0.05;
const COLD: f64 = 1e-6;

/// Simulated annealing from `start` with geometric cooling (Kirkpatrick, Gelatt, Vecchi 1983).
pub(super) fn anneal<L: Landscape>(
    landscape: &L,
    start: L::Point,
    steps: u32,
    rng: &mut Stream,
) -> (L::Point, f64) {
    let mut here = (landscape.cost(&start), start);
    let mut best = here.clone();
    let first = here.0.abs().max(1e-9) * HOT;
    let cooling = (COLD / HOT).powf(1.0 / f64::from(steps.max(1)));
    let mut heat = first;
    for _ in 0..steps {
        let next = landscape.step(&here.1, rng);
        let cost = landscape.cost(&next);
        if cost <= here.0 || rng.random::<f64>() < ((here.0 - cost) / heat).exp() {
            here = (cost, next);
            if here.0 < best.0 {
                best = here.clone();
            }
        }
        heat *= cooling;
    }
    (best.1, best.0)
}

/// Points alive in one generation: enough to stay diverse.
const POPULATION: usize = 40;
/// The best that live on unchanged.
const ELITE: usize = 4;
/// Points that compete for being a parent.
const TOURNAMENT: usize = 3;

/// A genetic algorithm with tournaments, crossing, one or two steps of mutation, and an elite
/// (Goldberg 1989).
pub(super) fn evolve<L: Landscape>(
    landscape: &L,
    starts: &[L::Point],
    generations: u32,
    rng: &mut Stream,
) -> Option<(L::Point, f64)> {
    let rated = |point: L::Point| (landscape.cost(&point), point);
    let mut alive: Vec<(f64, L::Point)> = starts.iter().cloned().map(rated).collect();
    if alive.is_empty() {
        return None;
    }
    while alive.len() < POPULATION {
        let parent = alive[rng.random_range(0..alive.len())].1.clone();
        alive.push(rated(landscape.step(&parent, rng)));
    }
    sort(&mut alive);
    for _ in 0..generations {
        let mut next: Vec<(f64, L::Point)> = alive[..ELITE].to_vec();
        while next.len() < POPULATION {
            let (one, other) = (pick(alive.len(), rng), pick(alive.len(), rng));
            let mut child = landscape.cross(&alive[one].1, &alive[other].1, rng);
            for _ in 0..rng.random_range(0..=2) {
                child = landscape.step(&child, rng);
            }
            next.push(rated(child));
        }
        sort(&mut next);
        alive = next;
    }
    alive.into_iter().next().map(|(cost, point)| (point, cost))
}

fn sort<P>(points: &mut [(f64, P)]) {
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
}

/// The best of a few at random, in a population sorted by cost.
fn pick(alive: usize, rng: &mut Stream) -> usize {
    (0..TOURNAMENT)
        .map(|_| rng.random_range(0..alive))
        .min()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlanRng;

    /// A bowl with ripples over the integers: many local minima, one best at 70.
    struct Ripples;

    impl Landscape for Ripples {
        type Point = i64;
        #[expect(clippy::cast_precision_loss, reason = "points are small")]
        fn cost(&self, point: &i64) -> f64 {
            let x = (*point - 70) as f64;
            10.0 + x * x / 50.0 + 5.0 * (1.0 - (x * std::f64::consts::TAU / 7.0).cos())
        }
        fn step(&self, point: &i64, rng: &mut Stream) -> i64 {
            point + rng.random_range(-4..=4)
        }
        fn cross(&self, one: &i64, other: &i64, _: &mut Stream) -> i64 {
            i64::midpoint(*one, *other)
        }
    }

    #[test]
    fn both_leave_local_minima_and_repeat() {
        let rng = PlanRng::from_seed(1);
        let annealed = anneal(&Ripples, 0, 20_000, &mut rng.stream("test", 1));
        assert_eq!(annealed.0, 70);
        assert_eq!(
            annealed,
            anneal(&Ripples, 0, 20_000, &mut rng.stream("test", 1))
        );
        let evolved = evolve(&Ripples, &[0, 200], 60, &mut rng.stream("test", 2)).unwrap();
        assert_eq!(evolved.0, 70);
    }
}
