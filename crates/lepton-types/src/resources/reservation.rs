//! Reservation: room on machines that a project is promised for a window of time.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Resource, spec_of};
use crate::{Name, Resources, Timestamp};

/// Room that is promised in advance. It lives in no project, as the machines do.
pub type Reservation = Resource<ReservationSpec, ReservationStatus>;

/// What is wanted of a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReservationSpec {
    /// Whose jobs and endpoints may use the room.
    pub project: Name,
    /// When its window opens.
    pub from: Timestamp,
    /// When it closes.
    pub until: Timestamp,
    /// How many workers there is to be room for.
    pub workers: u32,
    /// The room of each, on one machine.
    pub resources: Resources,
}

/// What is of a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct ReservationStatus {
    /// Where it stands.
    pub phase: ReservationPhase,
    /// The machine of each worker, once it is promised.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// Why it was refused, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Where a reservation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReservationPhase {
    /// Nobody has looked for room yet.
    #[default]
    Pending,
    /// Promised.
    Booked,
    /// There is not enough room that is sure to be free.
    Refused,
    /// Its window has closed.
    Over,
}

impl ReservationPhase {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Booked => "booked",
            Self::Refused => "refused",
            Self::Over => "over",
        }
    }
}

spec_of!(ReservationSpec, ReservationStatus, Reservation, named: true, |status| {
    status.phase.as_str()
});
