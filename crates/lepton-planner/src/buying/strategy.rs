//! The policy of least expected cost on one offer, by dynamic programming over what was learnt.
//!
//! Owns: the value of being somewhere with so much slack. Must not know: other offers, or the
//! future.
//!
//! The state is the steps left, the slack (steps that may still be lost), whether the machine is
//! rented and how, and how long the spot offer has been up or down. A step in which nothing
//! runs costs one step of slack; so does taking up a machine. Runs of the offer end with a
//! probability that depends on their age, learnt from its past with a heavy-tailed prior. One
//! step of slack is always kept for the changeover to an on-demand machine, which makes the
//! deadline safe whatever the offer does.

use super::view::{JobView, Mode, Offer};

/// More steps than this would cost more time than their precision is worth.
const STEPS_MOST: u64 = 360;
/// Slack beyond this many steps is as good as this many.
const SLACK_MOST: usize = 160;
/// Buckets of the age of a run, doubling.
const AGES: usize = 9;

/// What the job runs on, as the strategy sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seat {
    Nothing = 0,
    Spot = 1,
    OnDemand = 2,
}

const SEATS: [Seat; 3] = [Seat::Nothing, Seat::Spot, Seat::OnDemand];

/// The value of every state, in dollars to the end.
#[derive(Debug, Clone)]
pub(super) struct Strategy {
    step_ms: u64,
    slacks: usize,
    steps: usize,
    /// Steps left × slack × (up, age) × seat.
    values: Vec<f64>,
    spot_usd: f64,
    on_demand_usd: f64,
    up: Vec<Fate>,
    down: Vec<Fate>,
}

/// What a step does to a run of a certain age.
#[derive(Debug, Clone, Copy)]
struct Fate {
    ends: f64,
    ages: f64,
}

impl Strategy {
    /// Solves for `offer`, for a job with `left_ms` to its deadline.
    #[must_use]
    pub(super) fn solve(view: &JobView, offer: &Offer, left_ms: u64) -> Self {
        let tick_ms = view.tick.as_millis().max(1);
        let coarse = view.changeover.as_millis().max(left_ms / STEPS_MOST).max(1);
        let ticks = coarse.div_ceil(tick_ms);
        let step_ms = ticks * tick_ms;
        let steps = usize::try_from(left_ms / step_ms)
            .unwrap_or(usize::MAX)
            .min(2 * STEPS_MOST as usize);
        let work_ms = offer.time_for(view.work_left).as_millis();
        let slack =
            usize::try_from(left_ms.saturating_sub(work_ms) / step_ms).unwrap_or(usize::MAX);
        let hours = lossy(step_ms) / 3_600_000.0;
        let fates = |up: bool| (0..AGES).map(|age| fate(offer, up, age, ticks)).collect();
        let mut strategy = Self {
            step_ms,
            slacks: slack.min(SLACK_MOST) + 1,
            steps,
            values: Vec::new(),
            spot_usd: offer
                .spot_usd_per_hour
                .unwrap_or(offer.on_demand_usd_per_hour)
                * hours,
            on_demand_usd: offer.on_demand_usd_per_hour * hours,
            up: fates(true),
            down: fates(false),
        };
        strategy.fill();
        strategy
    }

    fn fill(&mut self) {
        self.values = vec![0.0; (self.steps + 1) * self.slacks * 2 * AGES * SEATS.len()];
        for left in 1..=self.steps {
            for slack in 0..self.slacks {
                if slack >= left {
                    // The work left is `left − slack`: it is done.
                    continue;
                }
                for up in [false, true] {
                    for age in 0..AGES {
                        for seat in SEATS {
                            let value = self
                                .choices(left, slack, up, age, seat)
                                .into_iter()
                                .map(|(_, value)| value)
                                .fold(f64::INFINITY, f64::min);
                            let at = self.index(left, slack, up, age, seat);
                            self.values[at] = value;
                        }
                    }
                }
            }
        }
    }

    fn index(&self, left: usize, slack: usize, up: bool, age: usize, seat: Seat) -> usize {
        (((left * self.slacks + slack) * 2 + usize::from(up)) * AGES + age) * SEATS.len()
            + seat as usize
    }

    /// What may be done in a state, and what it is expected to cost to the end.
    fn choices(
        &self,
        left: usize,
        slack: usize,
        up: bool,
        age: usize,
        seat: Seat,
    ) -> [(Seat, f64); 3] {
        let lost = |next: Seat| usize::from(next == Seat::Nothing || next != seat);
        let cost = |next: Seat| match next {
            Seat::Nothing => 0.0,
            Seat::Spot => self.spot_usd,
            Seat::OnDemand => self.on_demand_usd,
        };
        SEATS.map(|next| {
            let spent = lost(next);
            // Off an on-demand machine, a step stays in reserve for getting there.
            let allowed = match next {
                Seat::OnDemand => slack >= spent,
                Seat::Spot => up && slack > spent,
                Seat::Nothing => slack > spent,
            };
            if !allowed {
                return (next, f64::INFINITY);
            }
            let then = self.expected(left - 1, slack - spent, up, age, next);
            (next, cost(next) + then)
        })
    }

    fn expected(&self, left: usize, slack: usize, up: bool, age: usize, seat: Seat) -> f64 {
        let value =
            |up: bool, age: usize, seat: Seat| self.values[self.index(left, slack, up, age, seat)];
        let fate = if up { self.up[age] } else { self.down[age] };
        let next_seat = if up && seat == Seat::Spot {
            Seat::Nothing
        } else {
            seat
        };
        let older = (age + 1).min(AGES - 1);
        let stays = value(up, age, seat) * (1.0 - fate.ages) + value(up, older, seat) * fate.ages;
        let turns = value(!up, 0, next_seat);
        // An outage may be over before it is seen at this step; then the seat is lost all the same.
        fate.ends * turns + (1.0 - fate.ends) * stays
    }

    /// What each choice is expected to cost, in dollars: nothing, spot, on demand.
    pub(super) fn costs(
        &self,
        view: &JobView,
        offer: &Offer,
        left_ms: u64,
        seat: Seat,
    ) -> [(Seat, f64); 3] {
        let work_ms = offer.time_for(view.work_left).as_millis();
        let pending_ms = if seat == Seat::Nothing {
            0
        } else {
            view.changeover_left.as_millis()
        };
        let slack_ms = left_ms.saturating_sub(work_ms).saturating_sub(pending_ms);
        let left = usize::try_from(left_ms / self.step_ms)
            .unwrap_or(usize::MAX)
            .clamp(1, self.steps.max(1));
        let slack = usize::try_from(slack_ms / self.step_ms)
            .unwrap_or(usize::MAX)
            .min(self.slacks - 1);
        if self.steps == 0 || slack >= left {
            // Less than a step is left, or less work than a step: the cheapest that is up.
            let spot = if offer.spot_is_up() {
                self.spot_usd
            } else {
                f64::INFINITY
            };
            return [
                (Seat::Nothing, f64::INFINITY),
                (Seat::Spot, spot),
                (Seat::OnDemand, self.on_demand_usd),
            ];
        }
        let ticks = self.step_ms / view.tick.as_millis().max(1);
        let age = age_bucket(offer.history.age(), ticks.max(1));
        self.choices(left, slack, offer.spot_is_up(), age, seat)
    }
}

impl From<Option<Mode>> for Seat {
    fn from(mode: Option<Mode>) -> Self {
        match mode {
            None => Self::Nothing,
            Some(Mode::Spot) => Self::Spot,
            Some(Mode::OnDemand) => Self::OnDemand,
        }
    }
}

/// Ages of up to one step, two, four and so on.
fn age_bucket(age: u64, ticks: u64) -> usize {
    (age.div_ceil(ticks).max(1).next_power_of_two().ilog2() as usize).min(AGES - 1)
}

fn fate(offer: &Offer, up: bool, bucket: usize, ticks: u64) -> Fate {
    // The bucket holds ages of (2^(b−1), 2^b] steps; the first, of up to one.
    let newest = if bucket == 0 {
        0
    } else {
        (ticks << (bucket - 1)) + 1
    };
    let width_steps = if bucket < 2 {
        1.0
    } else {
        lossy(1 << (bucket - 1))
    };
    let lasts: f64 = (0..ticks)
        .map(|tick| {
            1.0 - offer
                .history
                .ends(up, newest + tick + (ticks << bucket) / 4)
        })
        .product();
    Fate {
        ends: 1.0 - lasts,
        ages: 1.0 / width_steps,
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "durations stay far below 2^53 ms"
)]
fn lossy(value: u64) -> f64 {
    value as f64
}
