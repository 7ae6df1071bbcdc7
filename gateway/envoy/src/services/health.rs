//! `grpc.health.v1.Health`: of the server, whose name is empty, and of each service.

use std::{convert::Infallible, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::gateway::Gateway;

/// The time between two looks at the gateway.
const PERIOD: Duration = Duration::from_millis(500);

/// The health of some services.
#[derive(Debug)]
pub(super) struct Health {
    reporter: HealthReporter,
    names: &'static [&'static str],
}

impl Health {
    pub(super) fn new(reporter: HealthReporter, names: &'static [&'static str]) -> Self {
        Self { reporter, names }
    }

    /// Reports the health of the gateway until the future is dropped.
    pub(super) async fn report<G: Gateway>(&self, gateway: &G) -> Infallible {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        loop {
            ticks.tick().await;
            let is_ready = gateway.is_ready().await;
            if last.replace(is_ready) != Some(is_ready) {
                self.set(if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing })
                    .await;
            }
        }
    }

    /// Ends the streams of clients that watch, which would keep their connections open.
    pub(super) async fn end_streams(mut self) {
        for name in self.names {
            self.reporter.clear_service_status(name).await;
        }
    }

    async fn set(&self, status: ServingStatus) {
        for name in self.names {
            self.reporter.set_service_status(name, status).await;
        }
    }
}
