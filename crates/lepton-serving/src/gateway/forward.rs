//! The way of one request: take its body, find a replica, ask, and ask again.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::Body;
use http::{Request, Response, StatusCode};
use http_body::Body as _;
use lepton_types::Name;
use tokio::time::Instant;

use super::attempt::{AttemptError, Repeatable};
use super::endpoint::{Endpoint, UnderWay, until_change};
use super::probe::{Health, probe};
use super::replica::{Failing, InFlight, ReplicaState};
use super::{EndpointKey, ForwardError, Gateway, headers};
use crate::body::{BodyLease, read_body};

/// Replicas that may end while answering one request before it is suspected of being
/// what ends them.
const LOST_MAX: usize = 3;

/// One request's search for a replica that answers.
struct Search<'a> {
    key: &'a EndpointKey,
    began: Instant,
    /// Replicas that did not answer this request; others are asked first.
    failed: Vec<Arc<ReplicaState>>,
    /// How many of them ended while answering.
    lost: usize,
}

/// What came of asking a replica.
enum Weighed {
    /// The answer.
    Answer(Response<Body>),
    /// An answer that only says "not now": the last resort.
    NotNow(Response<Body>),
    /// None.
    AskAgain,
}

/// A replica to ask, counted in already.
struct Found {
    endpoint: Arc<Endpoint>,
    replica: Arc<ReplicaState>,
    in_flight: InFlight,
}

impl<'a> Search<'a> {
    fn new(key: &'a EndpointKey) -> Self {
        Self {
            key,
            began: Instant::now(),
            failed: Vec::new(),
            lost: 0,
        }
    }

    fn has_failed(&self, replica: &Arc<ReplicaState>) -> bool {
        self.failed.iter().any(|other| Arc::ptr_eq(other, replica))
    }

    /// What to do about what a replica said, or did not say.
    fn weigh(
        &mut self,
        outcome: Result<Response<Body>, AttemptError>,
        replica: &ReplicaState,
    ) -> Result<Weighed, ForwardError> {
        match outcome {
            Ok(response) if response.status() == StatusCode::SERVICE_UNAVAILABLE => {
                return Ok(Weighed::NotNow(response));
            }
            Ok(response) => {
                replica.succeeded();
                return Ok(Weighed::Answer(response));
            }
            Err(AttemptError::Unreachable | AttemptError::NotReady) => {
                replica.failed(Failing::Unreachable, Instant::now());
            }
            Err(AttemptError::Lost) => {
                replica.failed(Failing::Unanswered, Instant::now());
                self.lost += 1;
                if self.lost >= LOST_MAX {
                    return Err(ForwardError::Lost {
                        endpoint: self.key.endpoint.to_string(),
                        times: self.lost,
                    });
                }
            }
        }
        Ok(Weighed::AskAgain)
    }
}

impl Gateway {
    /// Sends a request to a replica of an endpoint, under `path` (with its query, such
    /// as `/v2/models/NAME/infer`), and gives the replica's answer.
    ///
    /// # Errors
    /// There is no such endpoint, the body is not taken, or no replica answers in time.
    pub async fn forward(
        &self,
        project: &Name,
        endpoint: &Name,
        request: Request<Body>,
        path: &str,
    ) -> Result<Response<Body>, ForwardError> {
        let key = EndpointKey {
            project: project.clone(),
            endpoint: endpoint.clone(),
        };
        let routed = self.endpoint(&key)?;
        let mut under_way = routed.state.begin(routed.route.limit);
        let answer = self.answer(&key, &mut under_way, request, path).await;
        let status = match &answer {
            Ok(response) => response.status(),
            Err(error) => error.status(),
        };
        under_way.end(status);
        if let Ok(response) = &answer {
            let bytes = response.body().size_hint().lower();
            let counter = &routed.state.counters.response_bytes;
            counter.fetch_add(bytes, Ordering::Relaxed);
        }
        answer
    }

    async fn answer(
        &self,
        key: &EndpointKey,
        under_way: &mut UnderWay,
        request: Request<Body>,
        path: &str,
    ) -> Result<Response<Body>, ForwardError> {
        let (request, _lease) = self.take(request, path).await?;
        let bytes = u64::try_from(request.body.len()).unwrap_or(u64::MAX);
        let state = under_way.state();
        let counters = &state.counters;
        counters.request_bytes.fetch_add(bytes, Ordering::Relaxed);
        let mut search = Search::new(key);
        let mut refused = None;
        loop {
            let Found {
                endpoint,
                replica,
                in_flight,
            } = match self.find_replica(&search).await {
                Ok(found) => found,
                // "Full" of one replica tells more than that no other came.
                Err(error) => return refused.ok_or(error),
            };
            under_way.served();
            if search.has_failed(&replica)
                && let Some(refused) = refused.take()
            {
                return Ok(refused);
            }
            let answer_max = endpoint.route.answer_max;
            let client = &self.0.client;
            let attempt = client.attempt(&replica, &request, in_flight, &self.0.budget);
            match tokio::time::timeout(answer_max, attempt).await {
                Ok(outcome) => match search.weigh(outcome, &replica)? {
                    Weighed::Answer(response) => return Ok(response),
                    Weighed::NotNow(response) => refused = Some(response),
                    Weighed::AskAgain => {}
                },
                Err(_) => {
                    replica.failed(Failing::Unanswered, Instant::now());
                    return Err(ForwardError::TimedOut {
                        endpoint: key.endpoint.to_string(),
                        answer_max,
                    });
                }
            }
            counters.retries.fetch_add(1, Ordering::Relaxed);
            search.failed.push(replica);
        }
    }

    /// The request as it may be sent again and again.
    async fn take(
        &self,
        request: Request<Body>,
        path: &str,
    ) -> Result<(Repeatable, BodyLease), ForwardError> {
        let path = path.parse().map_err(|_| ForwardError::Path {
            path: path.chars().take(200).collect(),
        })?;
        let (parts, body) = request.into_parts();
        let (body, lease) =
            read_body(&parts.headers, body, self.0.body_bytes_max, &self.0.budget).await?;
        let request = Repeatable {
            method: parts.method,
            path,
            headers: headers::for_replica(&parts.headers),
            body,
        };
        Ok((request, lease))
    }

    /// A replica, now or when one is ready.
    async fn find_replica(&self, search: &Search<'_>) -> Result<Found, ForwardError> {
        let endpoint = self.endpoint(search.key)?;
        self.start_probes(&endpoint);
        match endpoint.pick(&search.failed) {
            Some((replica, in_flight)) => Ok(Found {
                endpoint,
                replica,
                in_flight,
            }),
            None => self.wait_for_replica(search, &endpoint).await,
        }
    }

    async fn wait_for_replica(
        &self,
        search: &Search<'_>,
        endpoint: &Endpoint,
    ) -> Result<Found, ForwardError> {
        let name = &search.key.endpoint;
        let deadline = search.began + endpoint.route.wait_max;
        let queue_max = endpoint.route.queue_max;
        let _place = endpoint
            .state
            .wait(queue_max)
            .ok_or_else(|| ForwardError::QueueFull {
                endpoint: name.to_string(),
                queue_max,
            })?;
        if endpoint.replicas.is_empty() {
            self.0.starved.notify_one();
        }
        loop {
            // Before looking, so that a change after the look is not missed.
            let changed = endpoint.state.next_change();
            tokio::pin!(changed);
            changed.as_mut().enable();
            // The table may have changed since; so may the replicas' health.
            let endpoint = self.endpoint(search.key)?;
            self.start_probes(&endpoint);
            if let Some((replica, in_flight)) = endpoint.pick(&search.failed) {
                return Ok(Found {
                    endpoint,
                    replica,
                    in_flight,
                });
            }
            if Instant::now() >= deadline {
                return Err(ForwardError::NoReplica {
                    endpoint: name.to_string(),
                    reason: endpoint.shortage(),
                    waited: search.began.elapsed(),
                });
            }
            until_change(changed, endpoint.next_probe(), deadline).await;
        }
    }

    fn endpoint(&self, key: &EndpointKey) -> Result<Arc<Endpoint>, ForwardError> {
        let snapshot = self.0.snapshot.load();
        let found = snapshot.endpoints.get(key).map(Arc::clone);
        found.ok_or_else(|| ForwardError::NoEndpoint {
            project: key.project.to_string(),
            endpoint: key.endpoint.to_string(),
        })
    }

    /// Probes the replicas that were left out and are due, beside the requests.
    fn start_probes(&self, endpoint: &Endpoint) {
        let now = Instant::now();
        for replica in &endpoint.replicas {
            if !replica.claim_probe(now) {
                continue;
            }
            let replica = Arc::clone(replica);
            let state = Arc::clone(&endpoint.state);
            self.0.probes.spawn(async move {
                match probe(replica.replica.address).await {
                    Health::Ready => replica.succeeded(),
                    Health::NotReady | Health::Dead => replica.probe_failed(Instant::now()),
                }
                state.changed();
            });
        }
    }
}
